"""Builds and installs the emulator of ``emulator.c`` in this process."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def compiler() -> str | None:
    """The C compiler of this machine, if any."""
    return shutil.which("cc")


def compiled(source: str, folder: Path) -> Path:
    """A C file beside this one as a shared library."""
    path = folder / Path(source).with_suffix(".so")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-ffp-contract=off"]
    command = ["cc", *flags, str(Path(__file__).with_name(source)), "-lm", "-o", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path


def build(folder: Path) -> ctypes.CDLL:
    """The emulator as a loaded library."""
    library = ctypes.CDLL(str(compiled("emulator.c", folder)))
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
