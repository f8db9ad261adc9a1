"""What a compiled kernel takes of a multiprocessor, and how many blocks of it therefore fit."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import attrs

from fettle.backends.triton.targets import Target
from fettle.graph.errors import BuildFailure

_NVIDIA = re.compile(r"REG:(\d+) STACK:(\d+)")
_AMD = {
    "registers": re.compile(r"\.vgpr_count:\s+(\d+)"),
    "accumulators": re.compile(r"\.agpr_count:\s+(\d+)"),
    "spills": re.compile(r"\.private_segment_fixed_size:\s+(\d+)"),
}
_REGISTER_UNIT = 8
"""Registers are given to a thread in eights."""
_RESERVED_SHARED = 1024
"""Bytes of shared memory CUDA keeps for itself per block."""


@attrs.frozen
class Resources:
    """What one thread takes.

    Attributes:
        registers: 32-bit registers.
        spills: bytes of local memory on its stack; anything but 0 is slow.
    """

    registers: int
    spills: int


@attrs.frozen
class Occupancy:
    """How many blocks of a kernel a multiprocessor holds, and what keeps it from holding more.

    Attributes:
        limiter: ``registers``, ``shared``, ``warps`` or ``blocks``; or why no block fits: the kernel is not loadable.
    """

    blocks: int
    limiter: str


def of_cubin(code: bytes) -> Resources:
    """Read from the cubin with the tool that comes with Triton.

    Raises:
        BuildFailure: the tool does not understand it.
    """
    text = run_tool("cuobjdump", ["--dump-resource-usage"], code)
    found = _NVIDIA.search(text)
    if found is None:
        raise BuildFailure(f"no resource usage in what cuobjdump says: {text[:200]!r}")
    return Resources(int(found[1]), int(found[2]))


def of_hsaco(assembly: str) -> Resources:
    """Read from AMD's assembly; accumulation registers count like others.

    Raises:
        BuildFailure: the text does not say.
    """
    found = {name: pattern.search(assembly) for name, pattern in _AMD.items()}
    if found["registers"] is None:
        raise BuildFailure("the assembly does not say how many registers it takes")
    numbers = {name: int(match[1]) if match else 0 for name, match in found.items()}
    return Resources(numbers["registers"] + numbers["accumulators"], numbers["spills"])


def occupancy(resources: Resources, threads: int, shared: int, target: Target) -> Occupancy:
    """Blocks per multiprocessor, by the rules of NVIDIA's occupancy calculator (registers per warp in units of 256)."""
    warps = -(-threads // target.warp)
    if threads > target.threads:
        return Occupancy(0, f"{threads} threads a block, {target.threads} are possible")
    if shared > target.shared_block:
        return Occupancy(0, f"{shared} bytes of shared memory a block, {target.shared_block} are possible")
    registers = -(-max(resources.registers, 1) // _REGISTER_UNIT) * _REGISTER_UNIT * target.warp * warps
    reserved = _RESERVED_SHARED if target.kind == "cuda" else 0
    limits = {
        "registers": target.registers // registers,
        "shared": target.shared_multiprocessor // (shared + reserved) if shared + reserved else target.blocks,
        "warps": target.warps // warps,
        "blocks": target.blocks,
    }
    limiter = min(limits, key=lambda name: limits[name])
    if limits[limiter] == 0:
        return Occupancy(0, f"no block fits: {limiter}")
    return Occupancy(limits[limiter], limiter)


def run_tool(name: str, arguments: list[str], code: bytes) -> str:
    """What one of Triton's bundled CUDA tools prints about a cubin.

    Raises:
        BuildFailure: it fails, or takes longer than a minute.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        try:
            done = subprocess.run(
                [str(tool), *arguments, file.name], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildFailure(f"{name} failed: {error}") from error
    return done.stdout
