"""How long a compiled program should take on its target: a roofline with the shape of the launch in it.

Per launch, the largest of these times, each what one resource of the part needs, plus the time a launch costs::

    memory   bytes / (bandwidth · min(1, bytes in flight / (latency · bandwidth)))      Little's law
    issue    warp instructions / (multiprocessors · issue · clock) / balance
    tensor   flops / peak / balance
    shared   shared-memory instructions · 128 B / (multiprocessors · 128 B · clock) / balance
    balance  = programs / (multiprocessors · ⌈programs / multiprocessors⌉)              waves

Blocks that fit beside each other on a multiprocessor hide each other's latency but do not multiply its pipes, hence
``balance`` counts programs per multiprocessor, and occupancy only enters through the bytes in flight. Nothing here was
fitted to a measurement; a prediction ranks schedules of one workload and is never called measured.
"""

from __future__ import annotations

import math

import attrs

from fettle.backends.triton.program import Kernel, Program
from fettle.backends.triton.resources import Occupancy, occupancy
from fettle.backends.triton.targets import Target

LAUNCH = 1.5e-6
"""Seconds one launch adds inside a CUDA graph (assumed)."""

LATENCY = 700e-9
"""Seconds from a load to its data under load (assumed; Hopper microbenchmarks, 2402.13499, see some 500 ns idle)."""

BANDWIDTH_SHARE = 0.9
"""Of the data sheet's bandwidth that a copy reaches (assumed)."""

MACHINE_PER_PTX = 0.72
"""Machine instructions per PTX instruction of a main loop: the median of eight low-bit products (0.66 … 1.10)."""

SPILL_PENALTY = 4.0
"""How much slower a loop gets whose values go through local memory (assumed; such kernels are to lose)."""


@attrs.frozen
class Prediction:
    """Seconds, what bounds them, and the parts."""

    seconds: float
    limiter: str
    occupancy: int
    terms: tuple[tuple[str, float], ...]


def predict(program: Program, target: Target) -> Prediction | str:
    """The time of all launches one after another; or why the program cannot run on the target at all."""
    total, terms, main = 0.0, {}, Occupancy(0, "")
    longest = -1.0
    for kernel in program.kernels:
        assert kernel.compiled is not None, "only compiled programs are predicted"
        fits = occupancy(kernel.compiled.resources, kernel.compiled.threads, kernel.compiled.shared, target)
        if fits.blocks == 0:
            return fits.limiter
        parts = launch_terms(kernel, target, fits.blocks)
        seconds = max(parts.values()) + LAUNCH
        total += seconds
        if seconds > longest:
            longest, terms, main = seconds, parts, fits
    terms = terms | {"launch": LAUNCH * len(program.kernels)}
    return Prediction(total, max(terms, key=lambda name: terms[name]), main.blocks, tuple(sorted(terms.items())))


def launch_terms(kernel: Kernel, target: Target, blocks: int) -> dict[str, float]:
    """Seconds of each resource for one launch of which ``blocks`` programs fit on a multiprocessor."""
    launch, compiled = kernel.launch, kernel.compiled
    assert compiled is not None
    work, programs = launch.work, launch.programs
    warps = compiled.threads // target.warp
    balance = programs / (target.multiprocessors * math.ceil(programs / target.multiprocessors))
    resident = min(programs, blocks * target.multiprocessors)
    per_trip = work.bytes / (programs * max(work.trips, 1.0))
    in_flight = resident * per_trip * max(1, launch.stages - 1)
    bandwidth = target.bandwidth * BANDWIDTH_SHARE
    passes = programs * warps * max(work.trips, 1.0)
    rate = target.multiprocessors * target.clock * balance
    spills = SPILL_PENALTY if compiled.resources.spills else 1.0
    ratio = MACHINE_PER_PTX if target.kind == "cuda" else 1.0
    peak = {"half": target.half, "fp8": target.fp8, "int8": target.int8}.get(work.unit, 0.0)
    return {
        "memory": work.bytes / (bandwidth * min(1.0, max(in_flight, 1.0) / (LATENCY * bandwidth))),
        "issue": spills * ratio * compiled.loop.total * passes / (rate * target.issue),
        "shared": compiled.loop["shared"] * passes / rate,
        "tensor": work.flops / (peak * balance) if peak else 0.0,
    }
