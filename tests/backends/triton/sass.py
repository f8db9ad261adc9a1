"""The machine code of a cubin as text. Half a second a kernel."""

from __future__ import annotations

from fettle.backends.triton.assembly import Loop, main_loop
from fettle.backends.triton.resources import run_tool


def disassemble(cubin: bytes) -> str:
    """SASS with labels. Raises BuildFailure."""
    return run_tool("nvdisasm", ["-c"], cubin)


def sass_loop(cubin: bytes) -> Loop:
    """Instruction counts of a cubin's main loop. Raises BuildFailure."""
    return main_loop(disassemble(cubin))
