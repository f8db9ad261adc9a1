"""Compile targets: what a GPU of each architecture is like, as its data sheet has it.

A compile target stands for one common part of its architecture. The figures are the vendors' own (NVIDIA's
architecture white papers and the CUDA programming guide's table of technical specifications; AMD's CDNA3 white paper
and MI300X data sheet), never measured ones: they decide what is legal and feed predictions, nothing else.
"""

from __future__ import annotations

import attrs

from fettle.graph.errors import InvalidDevice

KIB = 1024

MOST_LAYERS = 65535
"""Programs of a launch along y or z."""


@attrs.frozen
class Target:
    """One architecture, represented by one part.

    Attributes:
        name: ``sm_90``, ``gfx942``.
        kind: ``cuda`` or ``hip``: which of Triton's backends compiles for it.
        part: the part whose figures these are.
        multiprocessors: streaming multiprocessors, or compute units.
        clock: cycles per second under load (boost).
        bandwidth: device memory, bytes per second.
        l2: bytes of the last-level cache.
        shared_block, shared_multiprocessor: bytes of shared memory a block may use, and one multiprocessor has.
        registers: 32-bit registers of a multiprocessor.
        warps, blocks: most resident on a multiprocessor.
        threads: most of a block.
        issue: warp instructions a multiprocessor issues per cycle.
        half, fp8, int8: dense tensor operations per second; 0 where the part lacks them. ``fp8`` is OCP's format:
            MI300X has another one (FNUZ), with another bias.
        warp: threads of a warp.
    """

    name: str
    kind: str
    part: str
    multiprocessors: int
    clock: float
    bandwidth: float
    l2: int
    shared_block: int
    shared_multiprocessor: int
    registers: int
    warps: int
    blocks: int
    half: float
    fp8: float
    int8: float
    threads: int = 1024
    issue: int = 4
    warp: int = 32

    @property
    def arch(self) -> int | str:
        """As Triton names it: 90, or ``gfx942``."""
        return int(self.name.removeprefix("sm_")) if self.kind == "cuda" else self.name

    @property
    def has_dependent_launches(self) -> bool:
        """Whether a launch may begin while the one before it ends."""
        return self.kind == "cuda" and int(self.arch) >= 90

    @property
    def peaks(self) -> dict[str, float]:
        """Operations per second of the tensor units that it has, as the data sheet has them, by names of roofs."""
        units = {"f16": self.half, "f8": self.fp8, "i8": self.int8}
        return {unit: peak for unit, peak in units.items() if peak}

    @property
    def has_fp8(self) -> bool:
        return self.fp8 > 0.0


_TARGETS = (
    Target(
        "sm_80", "cuda", "A100 SXM 80 GB", 108, 1.41e9, 2.039e12, 40 << 20, 163 * KIB, 164 * KIB, 65536, 64, 32,
        half=312e12, fp8=0.0, int8=624e12,
    ),
    Target(
        "sm_89", "cuda", "L40S", 142, 2.52e9, 0.864e12, 96 << 20, 99 * KIB, 100 * KIB, 65536, 48, 24,
        half=362e12, fp8=733e12, int8=733e12,
    ),
    Target(
        "sm_90", "cuda", "H200 SXM", 132, 1.98e9, 4.8e12, 50 << 20, 227 * KIB, 228 * KIB, 65536, 64, 32,
        half=989e12, fp8=1979e12, int8=1979e12,
    ),
    Target(
        "sm_100", "cuda", "B200", 148, 1.965e9, 8.0e12, 126 << 20, 227 * KIB, 228 * KIB, 65536, 64, 32,
        half=2250e12, fp8=4500e12, int8=4500e12,
    ),
    Target(
        "sm_120", "cuda", "RTX 5090", 170, 2.407e9, 1.792e12, 96 << 20, 99 * KIB, 100 * KIB, 65536, 48, 24,
        half=209.5e12, fp8=419e12, int8=838e12,
    ),
    Target(
        "gfx942", "hip", "MI300X", 304, 2.1e9, 5.3e12, 256 << 20, 64 * KIB, 64 * KIB, 131072, 32, 32,
        half=1307e12, fp8=0.0, int8=2615e12, warp=64,
    ),
)  # fmt: skip

TARGETS = {target.name: target for target in _TARGETS}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        InvalidDevice: there is none.
    """
    try:
        return TARGETS[name]
    except KeyError:
        raise InvalidDevice(
            f"no compile target {name!r}", hint=f"triton:{' triton:'.join(TARGETS)}, or triton:0 for a GPU"
        ) from None
