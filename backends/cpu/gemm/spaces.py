"""The schedules of the family: how the weights are packed, and how much of M, N and K is in flight.

===============  ========================================================================================
``algorithm``    ``vnni`` dot products or ``amx`` tiles of int8; ``fma`` where activations stay floats
``order``        order of the packed codes: ``fields`` of bytes, or bit ``planes``
``tile``         rows of W of a packed tile
``interleave``   blocks of 16 rows of W whose lines alternate in the packed weights
``panel``        rows of W a thread works on at a time; a thread's unit of work
``rows``         rows of x of a register tile
``vectors``      vectors of 16 rows of W of a register tile
``unroll``       steps (of tiles: products) along K without a branch
``ahead``        groups of K ahead of which weights are asked for; 0 leaves it to the hardware
``zeros``        zero points are taken off the ``sums``, or (tiles only) off the ``codes`` as they are decoded:
                 once a group and row of x, or once a code and band
``threads``      threads that share the work
``row_threads``  threads among which the rows of x are shared, each decoding panels for itself; the others share
                 the panels: N is split by 1, M by ``threads``, or both by what lies between
``pages``        of the packed weights: the ``system``'s choice, or ``huge`` where NumPy would not ask for them
===============  ========================================================================================
"""

from __future__ import annotations

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.amx import shapes
from fettle.backends.cpu.gemm.plan import (
    LANES,
    LARGEST_BAND,
    balanced_rows,
    packed_plan,
    slab_steps,
    tile_k,
)
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.rounding import ceil_div
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

VERSION = "gemm-6"

LEAST_ROWS = 8
"""Fewer rows of x are the family ``gemv``'s."""

REQUIRED = {
    "fields": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "f16c"}),
    "planes": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "avx512vbmi", "f16c"}),
}
"""Features each order of the codes needs."""

AMX = frozenset({"amx-tile", "amx-int8"})
"""Features ``amx`` needs besides."""

_TILES = (16, 32, 64, 128, 256, 512)
_PANELS = (16, 32, 64, 128)
_LARGEST_PADDING = 1.125
"""A tile may pad N by this factor."""

_LEAST_SHARE = 4
"""Rows of x of a thread at least, where threads share them."""

_REGISTERS = 28
"""Sums in flight; the other four registers hold codes and activations."""

_ROWS_AT_ONCE = 16
"""Rows of x up to which one vector of W at a time is the untuned choice, where two do not fit."""

_SELDOM = 128
"""Elements of K with one scale from which on."""

_SHARE = 3
"""Packed weights over a third of the last cache come from memory for the most part, as others use it too."""

_LARGEST_BODY = 160
"""Dot products of one unrolled loop body, which bounds the time LLVM takes."""


def supports(workload: Workload, device: Device) -> Support:
    """Products of many rows with quantised weights, on AVX-512 VNNI.

    Batch-invariant ones of any number of rows: integer sums are exact, and everything in floating point happens in
    the same order in every schedule, so that no bit of a row's result depends on M.
    """
    if workload["weight"] is None or not workload["weight"].is_quantised:
        return Support.no("only quantised weights")
    if workload["weight"].encodes_numbers:
        return Support.no("only weights of integers and signs")
    if workload["epilogue"] is not None:
        return Support.no("no epilogues: here they are for float products")
    if workload["weight"].is_binary_coded:
        return Support.no("binary-coded weights are the family gemv's")
    if isinstance(workload["act"], PreparedFormat) and workload["act"].element != "i8":
        return Support.no("tables are the family gemv's")
    if workload["m"] < LEAST_ROWS and not workload["invariant"]:
        return Support.no(f"fewer than {LEAST_ROWS} rows")
    if not orders(workload, device):
        return Support.no("needs AVX-512 VNNI")
    if not _fits(workload):
        return Support.no("an operand of more than 2^31 elements")
    return Support.yes()


def orders(workload: Workload, device: Device) -> tuple[str, ...]:
    """Orders of packed codes the device has the instructions for, and kernels of one row read too."""
    usable = [order for order, needed in REQUIRED.items() if needed <= cpu.features(device)]
    return tuple(order for order in usable if order == "fields" or workload["compute"].kind == "i8")


def _fits(workload: Workload) -> bool:
    """Offsets stay in 31 bits."""
    plan = packed_plan(workload, "fields", _TILES[-1])
    m: int = workload["m"] + LARGEST_BAND
    return max(2 * plan.weight_bytes, 4 * m * plan.padded_k, m * plan.n, plan.padded_n * plan.groups) < 2**31


def algorithms(workload: Workload, device: Device) -> tuple[str, ...]:
    """What may multiply."""
    if workload["compute"].kind != "i8":
        return ("fma",)
    return ("vnni", "amx") if cpu.features(device) >= AMX else ("vnni",)


def space(workload: Workload, device: Device) -> Space:
    """All schedules of a supported workload."""
    m, n = workload["m"], workload["n"]
    names = orders(workload, device)
    multipliers = algorithms(workload, device)
    has_tiles = "amx" in multipliers
    plans = {order: packed_plan(workload, order, _TILES[0]) for order in names}
    parameters = (
        Parameter.categorical("algorithm", multipliers),
        Parameter.categorical("order", names),
        Parameter("tile", _tiles(n)),
        Parameter("interleave", (1, 2, 4)),
        Parameter("panel", _PANELS),
        Parameter("rows", tuple(sorted({*_rows(m), *(_tile_rows(m) if has_tiles else ())}))),
        Parameter("vectors", (1, 2, 4)),
        Parameter("unroll", (1, 2, 4)),
        Parameter("ahead", (0, 1, 2, 4)),
        Parameter.categorical("zeros", ("sums", "codes") if has_tiles else ("sums",)),
        Parameter("threads", cpu.thread_counts(device)),
        Parameter("row_threads", tuple(t for t in cpu.thread_counts(device) if t * _LEAST_SHARE <= m) or (1,)),
        Parameter.categorical("pages", pages.choices(plan.weight_bytes for plan in plans.values())),
    )
    constraints = [
        Constraint("tile % panel == 0 and panel % (16 * vectors) == 0", "whole panels and vectors"),
        Constraint("panel % (16 * interleave) == 0", "panels of whole turns"),
        Constraint("threads % row_threads == 0", "threads form a rectangle"),
        Constraint(f"panel * (threads // row_threads - 1) < {n}", "every thread has a panel"),
        Constraint(f"rows * (row_threads - 1) < {m}", "every thread has rows"),
        Constraint(f"algorithm == 'amx' or rows * vectors <= {_REGISTERS}", "sums in registers"),
        *(_steps_of(order, plan) for order, plan in plans.items()),
    ]
    if has_tiles:
        constraints += _tile_constraints(m, plans)
    return Space(parameters, constraints, VERSION)


def _steps_of(order: str, plan: Plan) -> Constraint:
    return Constraint(
        f"algorithm == 'amx' or order != '{order}' or ({plan.steps} % unroll == 0 and"
        f" (unroll == 1 and rows <= {_REGISTERS // 2} or"
        f" unroll * rows * vectors * {plan.step_k // 4} <= {_LARGEST_BODY}))",
        "whole steps, a loop body of bounded size",
    )


def _tile_constraints(m: int, plans: dict[str, Plan]) -> list[Constraint]:
    """What ``amx`` needs, and what only it has."""
    return [
        Constraint(f"algorithm == 'amx' or rows in {_rows(m)}", "heights of register tiles"),
        Constraint(f"algorithm != 'amx' or rows in {_tile_rows(m)}", "heights of whole tiles"),
        Constraint(f"algorithm != 'amx' or {shapes.fits('rows', 'vectors')}", "sums, x and codes in tile registers"),
        Constraint("algorithm == 'amx' or zeros == 'sums'", "only tiles multiply signed codes"),
        *(
            Constraint(
                f"algorithm != 'amx' or order != '{order}' or"
                f" {slab_steps(plan, False) * plan.step_k // tile_k(plan)} % unroll == 0",
                "whole products",
            )
            for order, plan in plans.items()
        ),
        *(
            Constraint(f"order != '{order}' or zeros == 'sums'", "bytes are multiplied as they are")
            for order, plan in plans.items()
            if plan.format.bits == 8 or (order == "fields" and plan.field == 8)
        ),
    ]


def default(workload: Workload, device: Device) -> Schedule:
    """What one would write first: all threads; the largest square of tiles where there are tiles, else register tiles.

    Codes that are bytes already are read again for each block of rows, and come to the cache early enough unasked.
    Weights that come from memory are read in runs of a whole tile: down narrower panels each run is 2 KB apart.
    """
    m, n = workload["m"], workload["n"]
    order = orders(workload, device)[0]
    packed = packed_plan(workload, order, _TILES[0])
    algorithm = algorithms(workload, device)[-1 if m >= LEAST_ROWS else 0]
    rows, vectors = _untuned_tile(m, packed, algorithm)
    is_decoded_often = m > rows and packed.field < 8
    is_read_often = algorithm == "vnni" and m > rows and packed.field == 8
    is_streamed = algorithm == "vnni" and m <= rows and packed.packed_bytes > cpu.last_level_bytes(device) // _SHARE
    tile = max(t for t in _tiles(n) if t <= 64)
    panel = tile if is_read_often or is_streamed else min(tile, 32)
    return Schedule.of(
        algorithm=algorithm,
        order=order,
        tile=tile,
        interleave=min(2, panel // LANES),
        panel=panel,
        rows=rows,
        vectors=min(vectors, panel // LANES),
        unroll=1,
        ahead=0 if is_read_often else 2,
        zeros="codes" if algorithm == "amx" and is_decoded_often else "sums",
        threads=max(t for t in cpu.thread_counts(device) if panel * (t - 1) < n),
        row_threads=1,
        pages="system",
    )


def _untuned_tile(m: int, packed: Plan, algorithm: str) -> tuple[int, int]:
    """Rows of x and vectors of W of a register tile.

    All rows at once where they fit: every code is decoded once then, into registers. By one vector this pays only where
    scales are applied seldom.
    """
    if algorithm == "amx":
        return max(r for r in _tile_rows(m) if r <= 2 * shapes.ROWS), 2
    if algorithm == "vnni" and 2 * m <= _REGISTERS:
        return m, 2
    if algorithm == "vnni" and m <= _ROWS_AT_ONCE and packed.field < 8 and packed.group >= _SELDOM:
        return m, 1
    return max(r for r in _rows(m) if r <= 8), 2


def _tile_rows(m: int) -> tuple[int, ...]:
    """Heights of register tiles of whole tiles."""
    return shapes.heights(ceil_div(m, ceil_div(m, LARGEST_BAND)))


def _rows(m: int) -> tuple[int, ...]:
    """Heights of register tiles that cut M into equal blocks; low ones only for small M."""
    heights = {balanced_rows(m, rows) for rows in range(1, _REGISTERS + 1)}
    return tuple(sorted(h for h in heights if h >= min(4, max(heights))))


def _tiles(n: int) -> tuple[int, ...]:
    """Tile heights that pad N little; the two smallest always."""
    least = ceil_div(n, _TILES[0]) * _TILES[0]
    return tuple(t for t in _TILES if t <= 2 * LANES or ceil_div(n, t) * t <= least * _LARGEST_PADDING)
