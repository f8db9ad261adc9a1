"""How long a compiled program should take on its target: how often a loop's passes can follow one another.

A multiprocessor has several programs beside each other. Between two passes of their main loops lie, in cycles::

    interval = ‖ issue, memory, tensor, latency / resident ‖_p       a smooth maximum: what overlaps does so imperfectly
    issue    = ISSUE · instructions · warps / (instructions issued a cycle)
    memory   = bytes of a pass / (bandwidth of one multiprocessor's share)
    tensor   = operations of a pass / (peak of one multiprocessor)
    latency  = CHAIN · instructions + MMA · mma + WGMMA · wgmma + GLOBAL · loads not copied ahead + BARRIER · barriers
               + SHALLOW, if the pipeline has two stages or fewer
    resident = programs beside each other, by occupancy and by how many there are

and a launch takes, ``rounds`` being the programs a multiprocessor gets::

    rounds · trips · interval + ⌈rounds / resident⌉ · PROLOGUE + gathered · ⌈tiles / multiprocessors⌉ / GATHER cycles
    + LAUNCH seconds

``gathered`` are the bytes of all parts of a tile, which its last program adds, where no launch of its own does. A
dependent launch begins while the one before it ends, so that neither its PROLOGUE nor its LAUNCH is added; nobody has
measured one.

The constants are a fit to all recorded trials of low-bit products on an H200 (``bench/results/h200``), each workload of
a folder counting the same and schedules within twice the best's time double; docs/triton.md says how well they rank.
They stand in for what data sheets do not say; for other parts the sheet's figures change and the constants stay, and
nobody has checked that.
"""

from __future__ import annotations

import math

import attrs

from fettle.backends.triton.program import Kernel, Program
from fettle.backends.triton.resources import Occupancy, occupancy
from fettle.backends.triton.targets import Target
from fettle.graph.errors import InvalidArgument


@attrs.frozen
class Constants:
    """What was fitted. Cycles, but for ``launch`` (seconds), and ``bandwidth``, ``norm``, ``spill``, ``gather``.

    Attributes:
        issue: slots an instruction (of PTX, before it is assembled) takes.
        bandwidth: share of the data sheet's that a copy reaches (measured: 4.20 of 4.8 TB/s).
        norm: p of the smooth maximum.
        chain: an instruction's share of the way through a pass.
        spill: how much slower a loop gets whose values go through local memory.
        gather: bytes a cycle that one program reads of what others left.
    """

    issue: float = 1.66
    bandwidth: float = 0.875
    norm: float = 3.9
    chain: float = 1.9
    mma: float = 3.4
    wgmma: float = 12.0
    load: float = 360.0
    barrier: float = 35.0
    shallow: float = 1180.0
    prologue: float = 2130.0
    launch: float = 1.23e-6
    spill: float = 1.12
    gather: float = 7.8


FITTED = Constants()

_OVERLAPPING = ("issue", "memory", "tensor", "latency")

_LOADS = 2
"""Loads of one pass that wait one after another; more go together."""


@attrs.frozen
class Prediction:
    """Seconds, what bounds them, and the parts."""

    seconds: float
    limiter: str
    occupancy: int
    terms: tuple[tuple[str, float], ...]


def predict(program: Program, target: Target, constants: Constants = FITTED) -> Prediction | str:
    """The time of all launches one after another; or why the program cannot run on the target at all.

    Raises:
        InvalidArgument: the program was not compiled.
    """
    total, terms, main = 0.0, {}, Occupancy(0, "")
    longest = -1.0
    for kernel in program.kernels:
        if kernel.compiled is None:
            raise InvalidArgument("only compiled programs are predicted")
        fits = occupancy(kernel.compiled.resources, kernel.compiled.threads, kernel.compiled.shared, target)
        if fits.blocks == 0:
            return fits.limiter
        parts = launch_terms(kernel, target, fits.blocks, constants)
        if kernel.launch.dependent:
            parts["prologue"] = 0.0
        alone = parts["prologue"] + parts["gather"] + (0.0 if kernel.launch.dependent else constants.launch)
        seconds = _norm([parts[name] for name in _OVERLAPPING], constants.norm) + alone
        total += seconds
        if seconds > longest:
            longest, terms, main = seconds, parts, fits
    launches = sum(not kernel.launch.dependent for kernel in program.kernels)
    terms = terms | {"launch": constants.launch * launches}
    return Prediction(total, max(terms, key=lambda name: terms[name]), main.blocks, tuple(sorted(terms.items())))


def launch_terms(kernel: Kernel, target: Target, blocks: int, constants: Constants = FITTED) -> dict[str, float]:
    """Seconds of each part of one launch of which ``blocks`` programs fit on a multiprocessor."""
    launch, compiled = kernel.launch, kernel.compiled
    assert compiled is not None
    work, loop = launch.work, compiled.loop
    warps = compiled.threads // target.warp
    rounds = math.ceil(launch.programs / target.multiprocessors)
    resident = min(blocks, rounds)
    passes = launch.programs * max(work.trips, 1.0)
    peak = {"half": target.half, "fp8": target.fp8, "int8": target.int8}.get(work.unit, 0.0)
    latency = (
        constants.chain * loop.total
        + constants.mma * loop["mma"]
        + constants.wgmma * loop["wgmma"]
        + constants.load * min(loop["global"], _LOADS)
        + constants.barrier * loop["wait"]
        + (constants.shallow if launch.stages <= 2 else 0.0)
    )
    cycles_of_all = target.multiprocessors * target.clock / passes
    cycles = {
        "issue": constants.issue * loop.total * warps / target.issue,
        "memory": work.bytes / (target.bandwidth * constants.bandwidth) * cycles_of_all,
        "tensor": work.flops / peak * cycles_of_all if peak else 0.0,
        "latency": latency / resident,
    }
    slower = constants.spill if compiled.resources.spills else 1.0
    trips = rounds * max(work.trips, 1.0) * slower / target.clock
    parts = {name: trips * count for name, count in cycles.items()}
    tiles = math.ceil(launch.grid[0] / target.multiprocessors)
    return parts | {
        "prologue": math.ceil(rounds / resident) * constants.prologue / target.clock,
        "gather": work.gathered * tiles / constants.gather / target.clock,
    }


def _norm(values: list[float], p: float) -> float:
    """(Σ v^p)^(1/p) of values that are not negative."""
    most = max(values)
    return most * sum((value / most) ** p for value in values) ** (1.0 / p) if most > 0.0 else 0.0
