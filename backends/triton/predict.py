"""How long a compiled program should take on its target: how often a loop's passes can follow one another.

A multiprocessor has several programs beside each other. Between two passes of their main loops lie, in cycles::

    interval = ‖ issue, memory, tensor, shared, latency / resident ‖_p     a smooth maximum: overlap is imperfect
    issue    = ISSUE · instructions · warps / (instructions issued a cycle) + exponentials / 16
    memory   = bytes of a pass / (BANDWIDTH · bandwidth of one multiprocessor's share)
    tensor   = operations of a pass / (TENSOR · peak of one multiprocessor)
    shared   = bytes that products of warpgroups read from shared memory / 128
    latency  = CHAIN · instructions + MMA · mma + LOAD · loads not copied ahead (at most two) + BARRIER · barriers
               + EXPOSED · tensor, unless products fly on into the next pass + SHALLOW, if the pipeline has two stages
               or fewer
    resident = programs beside each other, by occupancy and by how many there are

and a launch takes, ``rounds`` being the programs a multiprocessor gets, and intervals SPILL times as long where values
go through local memory::

    rounds · trips · interval + ⌈rounds / resident⌉ · PROLOGUE + gathered · ⌈tiles / multiprocessors⌉ / GATHER cycles
    + LAUNCH seconds

A product of a warpgroup has 64 rows of the left operand and reads the right one's K by N whole, each from shared memory
or the left one from registers. ``gathered`` are the bytes of all parts of a tile, which its last program adds, where no
launch of its own does. A dependent launch begins while the one before it ends, so that neither its PROLOGUE nor its
LAUNCH is added; nobody has measured one.

What is in capitals, the coefficients, is a fit to all recorded trials on an H200 (``bench/results/h200``), each
workload of a folder counting the same and schedules within twice the best's time double; docs/triton.md says how well
they rank. They stand in for what data sheets do not say; for other parts the sheet's figures change, the coefficients
stay, and nobody has checked that.
"""

from __future__ import annotations

import math

import attrs

from fettle.backends.triton.assembly import Loop
from fettle.backends.triton.plan import Launch
from fettle.backends.triton.program import Kernel, Program
from fettle.backends.triton.resources import Occupancy, occupancy
from fettle.backends.triton.targets import Target
from fettle.graph.errors import InvalidArgument


@attrs.frozen
class Coefficients:
    """What was fitted. Cycles, but for ``launch`` (seconds), and ``bandwidth``, ``tensor``, ``exposed``, ``norm``,
    ``spill`` and ``gather``.

    Attributes:
        issue: slots an instruction (of PTX, before it is assembled) takes.
        bandwidth: share of the data sheet's that a copy reaches (measured: 4.20 of 4.8 TB/s).
        tensor: share of the data sheet's that products reach (measured: 759 of 989 TFLOP/s at most).
        exposed: share of the tensor units' time that the rest of a program's pass does not hide.
        norm: p of the smooth maximum.
        chain: an instruction's share of the way through a pass.
        mma: an ``mma``'s own, besides; those of warpgroups have none.
        load: wait for device memory.
        barrier: wait at one.
        shallow: what a pipeline of two stages does not hide.
        prologue: filling the pipeline, once for programs beside each other.
        launch: what the device takes to begin.
        spill: how much slower a loop gets whose values go through local memory.
        gather: bytes a cycle that one program reads of what others left.
    """

    issue: float = 1.68
    bandwidth: float = 0.875
    tensor: float = 0.75
    exposed: float = 0.73
    norm: float = 3.75
    chain: float = 2.0
    mma: float = 4.2
    load: float = 466.0
    barrier: float = 40.0
    shallow: float = 1340.0
    prologue: float = 1840.0
    launch: float = 0.94e-6
    spill: float = 1.16
    gather: float = 7.3


FITTED = Coefficients()

_OVERLAPPING = ("issue", "memory", "tensor", "shared", "latency")

_SHARED_BYTES = 128
"""That a multiprocessor's shared memory gives a cycle (CUDA programming guide, as the next)."""
_EXPONENTIALS = 16
"""That a multiprocessor makes a cycle."""
_WARPGROUP_ROWS = 64
_LEFT_BYTES = 2048
"""Of a warpgroup's product: 64 rows of 32 bytes."""
_ELEMENT_BYTES = {"half": 2, "fp8": 1, "int8": 1}

_LOADS = 2
"""Loads of one pass that wait one after another; more go together."""


@attrs.frozen
class Prediction:
    """Seconds, what bounds them, and the parts."""

    seconds: float
    limiter: str
    occupancy: int
    terms: tuple[tuple[str, float], ...]


def predict(program: Program, target: Target, coefficients: Coefficients = FITTED) -> Prediction | str:
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
        parts = launch_terms(kernel, target, fits.blocks, coefficients)
        if kernel.launch.dependent:
            parts["prologue"] = 0.0
        alone = parts["prologue"] + parts["gather"] + (0.0 if kernel.launch.dependent else coefficients.launch)
        seconds = _norm([parts[name] for name in _OVERLAPPING], coefficients.norm) + alone
        total += seconds
        if seconds > longest:
            longest, terms, main = seconds, parts, fits
    launches = sum(not kernel.launch.dependent for kernel in program.kernels)
    terms = terms | {"launch": coefficients.launch * launches}
    return Prediction(total, max(terms, key=lambda name: terms[name]), main.blocks, tuple(sorted(terms.items())))


def launch_terms(kernel: Kernel, target: Target, blocks: int, coefficients: Coefficients = FITTED) -> dict[str, float]:
    """Seconds of each part of one launch of which ``blocks`` programs fit on a multiprocessor."""
    launch, compiled = kernel.launch, kernel.compiled
    assert compiled is not None
    work, loop = launch.work, compiled.loop
    warps = compiled.threads // target.warp
    rounds = math.ceil(launch.programs / target.multiprocessors)
    resident = min(blocks, rounds)
    passes = launch.programs * max(work.trips, 1.0)
    peak = {"half": target.half, "fp8": target.fp8, "int8": target.int8}.get(work.unit, 0.0)
    cycles_of_all = target.multiprocessors * target.clock / passes
    peak *= coefficients.tensor
    latency = (
        coefficients.chain * loop.total
        + coefficients.mma * loop["mma"]
        + (0.0 if work.flying or not peak else coefficients.exposed * work.flops / peak * cycles_of_all)
        + coefficients.load * min(loop["global"], _LOADS)
        + coefficients.barrier * loop["wait"]
        + (coefficients.shallow if launch.stages <= 2 else 0.0)
    )
    cycles = {
        "issue": coefficients.issue * loop.total * warps / target.issue + work.exponentials / _EXPONENTIALS,
        "memory": work.bytes / (target.bandwidth * coefficients.bandwidth) * cycles_of_all,
        "tensor": work.flops / peak * cycles_of_all if peak else 0.0,
        "shared": _read_from_shared(launch, loop, passes, warps) / _SHARED_BYTES,
        "latency": latency / resident,
    }
    slower = coefficients.spill if compiled.resources.spills else 1.0
    trips = rounds * max(work.trips, 1.0) * slower / target.clock
    parts = {name: trips * count for name, count in cycles.items()}
    tiles = math.ceil(launch.grid[0] / target.multiprocessors)
    return parts | {
        "prologue": math.ceil(rounds / resident) * coefficients.prologue / target.clock,
        "gather": work.gathered * tiles / coefficients.gather / target.clock,
    }


def _read_from_shared(launch: Launch, loop: Loop, passes: float, warps: int) -> float:
    """Bytes that the products of one pass read themselves; others have instructions that read for them."""
    work = launch.work
    if not loop["wgmma"]:
        return 0.0
    right = work.flops / passes * _ELEMENT_BYTES[work.unit] / (2 * _WARPGROUP_ROWS)
    return right + work.left_shared * _LEFT_BYTES * loop["wgmma"] * warps / 4


def _norm(values: list[float], p: float) -> float:
    """(Σ v^p)^(1/p) of values that are not negative."""
    most = max(values)
    return most * sum((value / most) ** p for value in values) ** (1.0 / p) if most > 0.0 else 0.0
