"""The schedules of the family: which inner loop, on which registers, how much in flight.

=============  ====================================================================================
``algorithm``  ``integer`` dot products; look-ups in tables (``lut``) or half tables (``mirror``, and ``triplets`` of
               ternary digits); ``dequantise`` to float
``isa``        registers and instructions of the inner loop
``tile``       rows of W whose sums are kept while K is walked; a thread's unit of work
``blocks``     blocks of rows in flight inside a tile, whose lines alternate in the packed weights
``batch``      rows of x in flight
``unroll``     steps along K without a branch
``prefetch``   bytes of weights asked for ahead; 0 leaves it to the hardware
``threads``    threads that share the tiles
``split``      tiles of a thread: neighbours (``contiguous``), or every ``threads``-th (``interleaved``)
``preparation``  each thread prepares the activations for itself (``private``), or all share it (``shared``)
``pages``      of the packed weights: the ``system``'s choice, or ``huge`` where NumPy would not ask for them
=============  ====================================================================================
"""

from __future__ import annotations

import math

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.rounding import ceil_div
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

VERSION = "6"

_VNNI = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"})
_VBMI = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vbmi"})
GFNI = "gfni"
"""The feature by which half tables spread signs, where there is one."""

ISAS: dict[tuple[str, str], tuple[frozenset[str], ...]] = {
    ("integer", "avx512"): (_VNNI,),
    ("integer", "avxvnni"): (frozenset({"avx2", "avxvnni"}), _VNNI),
    ("integer", "avx2"): (frozenset({"avx2"}),),
    ("lut", "avx512"): (_VNNI | {"avx512vbmi"},),
    ("lut", "avx512bw"): (frozenset({"avx512f", "avx512bw", "avx512vl"}),),
    ("lut", "avx2"): (frozenset({"avx2"}),),
    ("mirror", "avx512"): (_VBMI | {GFNI}, _VBMI),
    ("triplets", "avx512"): (_VBMI,),
    ("triplets", "avx512bw"): (frozenset({"avx512f", "avx512bw", "avx512vl"}),),
    ("triplets", "avx2"): (frozenset({"avx2"}),),
    ("triplets", "portable"): (frozenset(),),
    ("dequantise", "avx512"): (frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}),),
    ("dequantise", "avx2"): (frozenset({"avx2", "fma"}),),
    ("dequantise", "portable"): (frozenset(),),
}
"""(algorithm, isa) -> alternative sets of features it needs, best isa first."""

NARROW_SUMS = (("lut", "avx512bw"), ("lut", "avx2"))
"""Pairs whose 16-bit sums do not hold eight planes."""

LOADED = (("triplets", "portable"),)
"""Pairs that load entry by entry, which takes LLVM long."""

MOST_MIRRORED_PLANES = 3
"""Bit planes that ``mirror`` is tried with. A plane takes it six instructions for 512 weights, and dot products of
whole nibbles take 16: three planes take a little more, but have fewer bytes to read."""

READERS = {"i8": "integer", "lut4": "lut"}
"""The algorithm that reads activations prepared in each way."""

_PREFETCH = (0, 1024, 2048, 4096, 8192)
_TILES = (16, 32, 64, 128, 256, 320, 512, 640, 1024)
_BLOCKS = (1, 2, 4, 5)
_LARGEST_PADDING = 1.125
"""A tile may pad N by this factor."""

_PRIVATE_ROWS = 8
"""Up to so many rows of x, threads may each prepare all of them."""

_HALF_TABLES = (("mirror", "avx512"), ("triplets", "avx512bw"), ("triplets", "avx2"))
"""Best first. Triplets are slower than dot products where these are one instruction, on VNNI."""

_WIDE_TILE = 256
"""Half tables are read for so many rows at least where N allows it: four blocks, or five, whichever pads less."""

_WORTH_THREADS = 1 << 19
"""Multiply-adds below which the untuned choice is one thread: it takes under 3 µs, and waking the others takes one."""

_LARGEST_BODY = 64
"""Line and row pairs of one unrolled loop body, which bounds the time LLVM takes."""

_LARGEST_SHUFFLED_BODY = 16
"""The same of look-ups by ``vpshufb``, whose widening sums take LLVM four times as long: at 32, a second."""


def required(algorithm: str, isa: str, usable: frozenset[str]) -> frozenset[str]:
    """The features an inner loop needs, out of the alternatives the usable ones satisfy."""
    return next(needed for needed in ISAS[algorithm, isa] if needed <= usable)


def converts_half(device: Device) -> bool:
    """Whether the device converts float16 by instructions; else the kernel does it with integers."""
    return "f16c" in cpu.features(device) or device.fact("arch") == "aarch64"


def supports(workload: Workload, device: Device) -> Support:
    """Products with quantised weights whose packed bytes and prepared activations 32-bit offsets reach."""
    if workload["weight"] is None or not workload["weight"].is_quantised:
        return Support.no("only quantised weights")
    if workload["weight"].encodes_numbers:
        return Support.no("only weights of integers and signs")
    if workload["epilogue"] is not None:
        return Support.no("no epilogues: here they are for float products")
    on_vnni = cpu.features(device) >= _VNNI | {"avx512dq", "f16c"}
    if workload["invariant"] and on_vnni and not _is_never_gemms(workload):
        return Support.no("batch-invariant products on AVX-512 VNNI are the family gemm's, whatever M is")
    if not pairs(workload, device):
        if isinstance(workload["act"], PreparedFormat):
            return Support.no(f"no inner loop here reads activations prepared as {workload['act']}")
        return Support.no("an operand of more than 2^31 elements")
    return Support.yes()


def _is_never_gemms(workload: Workload) -> bool:
    """Products that the family gemm leaves to this one, whatever M is."""
    act = workload["act"]
    reads_tables = isinstance(act, PreparedFormat) and READERS[act.element] == "lut"
    return workload["weight"].is_binary_coded or reads_tables


def pairs(workload: Workload, device: Device) -> list[tuple[str, str]]:
    """The (algorithm, isa) pairs for a workload: int8 ones where activations may be rounded to 8 bits."""
    usable = cpu.features(device)
    runnable = [
        pair
        for pair, sets in ISAS.items()
        if any(needed <= usable for needed in sets) and _fits(_plan(workload, *pair, tile=_TILES[-1]))
    ]
    runnable = [pair for pair in runnable if _has_lines(_plan(workload, *pair))]
    act = workload["act"]
    if isinstance(act, PreparedFormat):
        runnable = [pair for pair in runnable if pair[0] == READERS[act.element]]
    bits = workload["weight"].bits
    rounded = [pair for pair in runnable if pair[0] != "dequantise" and (pair not in NARROW_SUMS or bits < 8)]
    exact = [pair for pair in runnable if pair[0] == "dequantise"]
    in_vectors = [pair for pair in rounded if pair[1] != "portable"]
    if workload["compute"].kind != "i8":
        rounded = exact
    elif not isinstance(act, PreparedFormat):
        rounded = in_vectors or exact + rounded  # look-ups by loads are for machines that cannot permute bytes
    return rounded[:1] if workload["invariant"] else rounded  # one inner loop: others round in other places


def _has_lines(plan: Plan) -> bool:
    """Some tile is whole lines; for half tables, a group's bytes add up in 16 bits, and there are few planes."""
    mirrors = plan.tables <= plan.largest_tables and plan.summed_planes <= MOST_MIRRORED_PLANES
    is_ternary = plan.format.kind == "tern" or not plan.is_triplets
    return (
        is_ternary
        and (not plan.has_half_tables or mirrors)
        and any(tile % plan.block_rows == 0 for tile in _tiles(plan.n))
    )


def _fits(plan: Plan) -> bool:
    """Offsets stay in 31 bits."""
    largest = max(plan.weight_bytes, plan.table_bytes, plan.m * plan.n, plan.padded_n * plan.stored_groups)
    return largest + max(_PREFETCH) < 2**31


def space(workload: Workload, device: Device) -> Space:
    """All schedules of a supported workload."""
    m, n = workload["m"], workload["n"]
    choices = pairs(workload, device)
    algorithms = list(dict.fromkeys(algorithm for algorithm, _ in choices))
    isas = list(dict.fromkeys(isa for _, isa in choices))
    is_prepared = isinstance(workload["act"], PreparedFormat)
    preparations = ("private",) if is_prepared else ("private", "shared")  # little is left to share
    parameters = (
        Parameter.categorical("algorithm", algorithms),
        Parameter.categorical("isa", isas),
        Parameter("tile", _tiles(n)),
        Parameter("blocks", _BLOCKS),
        Parameter("batch", tuple(b for b in (1, 2, 4, 8) if b <= m)),
        Parameter("unroll", (1, 2, 4, 8, 13, 16)),
        Parameter("prefetch", _PREFETCH),
        Parameter("threads", cpu.thread_counts(device)),
        Parameter.categorical("split", ("contiguous", "interleaved")),
        Parameter.categorical("preparation", preparations),
        Parameter.categorical("pages", pages.choices(_plan(workload, *pair).weight_bytes for pair in choices)),
    )
    constraints = [
        *(_isas_of(algorithm, choices) for algorithm in algorithms),
        *(_shape_of(workload, algorithm, isa) for algorithm, isa in choices),
        Constraint(f"tile * (threads - 1) < {n}", "every thread has a tile"),
        Constraint("threads > 1 or (preparation == 'private' and split == 'contiguous')", "one thread shares nothing"),
    ]
    if m > _PRIVATE_ROWS and not is_prepared:
        constraints.append(Constraint("threads == 1 or preparation == 'shared'", "many rows are prepared once"))
    return Space(parameters, constraints, VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """What is good for most shapes: a few steps at a time, no prefetch, all threads where the product is worth it."""
    m, n = workload["m"], workload["n"]
    algorithm, isa, tile = _untuned_loop(workload, device)
    plan = _plan(workload, algorithm, isa)
    sums = plan.parts * (plan.accumulators + 2 * plan.is_triplets)  # of these, indices and signs stay as well
    batch = max(b for b in (1, 2, 4) if b == 1 or (b <= m and b * sums <= _registers(isa)))
    products, largest = plan.parts * plan.step_products, _largest_body(algorithm, isa)

    def fit(blocks: int) -> bool:
        """Whole lines, sums in registers, a loop body of bounded size."""
        lines = blocks * batch
        in_registers = lines * sums <= _registers(isa)
        return tile % (plan.block_rows * blocks) == 0 and in_registers and lines * products <= largest

    blocks = max(b for b in _BLOCKS if b == 1 or fit(b))
    body = batch * blocks * products
    unrolls = (1,) if plan.has_half_tables else (1, 2, 4)
    is_large = m * n * workload["k"] >= _WORTH_THREADS
    threads = max(t for t in cpu.thread_counts(device) if t == 1 or (is_large and tile * (t - 1) < n))
    return Schedule.of(
        algorithm=algorithm,
        isa=isa,
        tile=tile,
        blocks=blocks,
        batch=batch,
        unroll=max(u for u in unrolls if u == 1 or (plan.steps % u == 0 and u * body <= largest)),
        prefetch=0,
        threads=threads,
        split="contiguous",
        preparation="shared" if threads > 1 and m > _PRIVATE_ROWS and not plan.prepared else "private",
        pages="system",
    )


def _untuned_loop(workload: Workload, device: Device) -> tuple[str, str, int]:
    """(algorithm, isa, tile): whole-code dot products, but look-ups for weights of one bit, which take a third of the
    time, and half tables for ternary ones, and one and two bits, where many rows of W share them."""
    choices, n = pairs(workload, device), workload["n"]
    algorithm, isa = choices[0]
    weight = workload["weight"]
    if weight.bits == 1 and ("lut", isa) in choices:
        algorithm = "lut"
    for pair in _HALF_TABLES:
        if n >= _rows_worth(workload, pair[0]) and pair in choices and (pair[0] == "mirror" or isa == "avx2"):
            tiles = [t for t in _tiles(n) if t <= 320 and t % _plan(workload, *pair).block_rows == 0]
            if tiles:
                return *pair, min(tiles, key=lambda t: (max(0, _WIDE_TILE - t), ceil_div(n, t) * t))
    return algorithm, isa, max(t for t in _tiles(n) if t <= 64)


def _rows_worth(workload: Workload, algorithm: str) -> float:
    """Rows of W from which half tables are the untuned choice: what it costs to make them is to be won back.

    With more rows of x, dot products and other look-ups share more work.
    """
    if workload["weight"].kind == "tern":
        return 1024 if algorithm == "mirror" else 256
    return {1: 4096, 2: 2048}.get(workload["weight"].bits, math.inf) if workload["m"] == 1 else math.inf


def _tiles(n: int) -> tuple[int, ...]:
    """Tile heights that pad N little; the two smallest always."""
    least = ceil_div(n, _TILES[0]) * _TILES[0]
    return tuple(t for t in _TILES if t <= 32 or ceil_div(n, t) * t <= least * _LARGEST_PADDING)


def _registers(isa: str) -> int:
    """Vectors of sums in flight that leave registers for the rest: half of them."""
    return 16 if isa in ("avx512", "avx512bw") else 8


def _largest_body(algorithm: str, isa: str) -> int:
    """Line and row pairs of an unrolled loop body at most."""
    return _LARGEST_SHUFFLED_BODY if (algorithm, isa) in NARROW_SUMS + LOADED else _LARGEST_BODY


def _isas_of(algorithm: str, choices: list[tuple[str, str]]) -> Constraint:
    isas = [isa for name, isa in choices if name == algorithm]
    listed = " or ".join(f"isa == '{isa}'" for isa in isas)
    return Constraint(f"algorithm != '{algorithm}' or {listed}", "the inner loop exists")


def _shape_of(workload: Workload, algorithm: str, isa: str) -> Constraint:
    plan = _plan(workload, algorithm, isa)
    registers, largest = _registers(isa), _largest_body(algorithm, isa)
    shortest = "unroll * blocks * batch" if (algorithm, isa) in LOADED else "unroll"
    return Constraint(
        f"algorithm != '{algorithm}' or isa != '{isa}' or (tile % ({plan.block_rows} * blocks) == 0"
        f" and {plan.steps} % unroll == 0"
        f" and (blocks * batch == 1 or blocks * batch * {plan.parts * plan.accumulators} <= {registers})"
        f" and ({shortest} == 1 or unroll * blocks * batch * {plan.parts * plan.step_products} <= {largest}))",
        "whole lines and steps, sums in registers, a loop body of bounded size",
    )


def _plan(workload: Workload, algorithm: str, isa: str, tile: int = 32) -> Plan:
    """A plan for what does not depend on the rest of the schedule."""
    schedule = Schedule.of(
        algorithm=algorithm,
        isa=isa,
        tile=tile,
        blocks=1,
        batch=1,
        unroll=1,
        prefetch=0,
        threads=1,
        preparation="private",
    )
    return Plan.of(workload, schedule)
