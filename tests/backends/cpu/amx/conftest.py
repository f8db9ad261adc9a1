"""Everything in this folder runs kernels for AMX: on silicon that has it, else on a machine that seems to have it.

There, three things are put in place of the silicon, and only while a module's tests run: the emulator handles the
tile instructions, the machine's features gain those of AMX, and the system "permits" tile registers. Kernels are
built, checked, loaded and run by the code that production uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import permission
from tests.backends.cpu.amx import emulator

MACHINE = cpu.Machine.detect()
LACKING = cpu.LEVELS["amx"] - MACHINE.features


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The emulator; None where the machine needs none."""
    if not LACKING:
        return None
    if not LACKING <= cpu.TILES:
        pytest.skip(f"only AMX is emulated; this machine also lacks {' '.join(sorted(LACKING - cpu.TILES))}")
    if emulator.compiler() is None:
        pytest.skip("the AMX emulator needs a C compiler named cc")
    return emulator.build(tmp_path_factory.mktemp("amx"))


@pytest.fixture(scope="module", autouse=True)
def machine(library: Any) -> Iterator[None]:
    """This machine, with AMX."""
    if library is None:
        permission.permit()
        yield
        return
    having = attrs.evolve(MACHINE, features=MACHINE.features | cpu.TILES)
    with pytest.MonkeyPatch.context() as patch, emulator.installed(library):
        patch.setattr(cpu.Machine, "detect", classmethod(lambda cls: having))
        patch.setattr(permission, "_request", lambda: 0)
        yield
    permission.permit.cache_clear()
