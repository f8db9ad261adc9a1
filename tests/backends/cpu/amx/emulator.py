"""Builds and installs the emulator of ``emulator.c`` in this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("emulator.c")


def compiler() -> str | None:
    """The C compiler of this machine, if any."""
    return shutil.which("cc")


def build(folder: Path) -> ctypes.CDLL:
    """The emulator as a loaded library."""
    path = folder / "amx_emulator.so"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-ffp-contract=off", str(SOURCE), "-lm"]
    subprocess.run([*command, "-o", str(path)], check=True, timeout=60)
    library = ctypes.CDLL(str(path))
    library.amx_executed.restype = ctypes.c_uint64
    return library


@contextmanager
def installed(library: ctypes.CDLL) -> Iterator[None]:
    """Tile instructions work in all threads of this process inside the block."""
    if library.amx_install():
        raise OSError("no handler of SIGILL could be installed")
    try:
        yield
    finally:
        library.amx_uninstall()
