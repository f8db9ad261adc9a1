"""Machine code on demand: what the assembler made of a program's launches. Half a second a kernel."""

from __future__ import annotations

from pathlib import Path

import attrs

from fettle.backends.triton.assembly import Loop, main_loop
from fettle.backends.triton.program import Program
from fettle.backends.triton.resources import Resources, run_tool
from fettle.graph.errors import Unsupported


@attrs.frozen
class LaunchCode:
    """The machine code of one launch.

    Attributes:
        shared: bytes of dynamic shared memory a block.
        loop: instructions of the main loop, by kind, as the GPU runs them.
    """

    template: str
    name: str
    threads: int
    shared: int
    resources: Resources
    loop: Loop


def disassemble(cubin: bytes) -> str:
    """SASS with labels. Raises BuildFailure."""
    return run_tool("nvdisasm", ["-c"], cubin)


def sass_loop(cubin: bytes) -> Loop:
    """Instruction counts of a cubin's main loop. Raises BuildFailure."""
    return main_loop(disassemble(cubin))


def launch_codes(program: Program) -> tuple[LaunchCode, ...]:
    """The launches of a program, in order.

    Raises:
        Unsupported: it was not compiled, or not for NVIDIA's GPUs.
        BuildFailure: the disassembler fails.
    """
    if not program.target.startswith("sm_"):
        raise Unsupported(f"machine code of {program.target} is not read", hint="only that of NVIDIA's GPUs is")
    found = []
    for kernel in program.kernels:
        compiled = kernel.compiled
        if compiled is None:
            raise Unsupported("the interpreter's plans have no machine code", hint="tune for a compile target or a GPU")
        found.append(
            LaunchCode(
                kernel.launch.template,
                compiled.name,
                compiled.threads,
                compiled.shared,
                compiled.resources,
                sass_loop(compiled.code),
            )
        )
    return tuple(found)


def unpack(program: Program, folder: Path) -> tuple[Path, ...]:
    """Write what a loader in another language needs: ``abi.json``, and of each launch the cubin and its listing.

    Raises:
        BuildFailure: the disassembler fails.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "abi.json"]
    paths[0].write_text(program.abi_json() + "\n")
    for number, kernel in enumerate(program.kernels):
        if kernel.compiled is not None:
            paths += [folder / f"{number}.cubin", folder / f"{number}.sass"]
            paths[-2].write_bytes(kernel.compiled.code)
            paths[-1].write_text(disassemble(kernel.compiled.code))
    return tuple(paths)
