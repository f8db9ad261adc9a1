"""What the dense family makes, and its schedules: which are worth trying, and the untuned one.

A point is in the space only if its register tile is large enough to hide the latency of multiply-adds and fits
the registers, what its innermost loop reuses is not far larger than L1, and what a task reuses stays in L2.
"""

from __future__ import annotations

import math

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.amx import shapes
from fettle.backends.cpu.dense.geometry import TILE_DEPTH
from fettle.backends.cpu.dense.limits import Limits
from fettle.backends.cpu.dense.untuned import untuned
from fettle.graph.workload import Workload

VERSION = "dense-7"

_MAX_ELEMENTS = 2**31 - 2**16
"""Index arithmetic in the kernels is 32 bits wide."""

_TILES = (1, 2, 4, 8, 16, 32, 64)
"""Register tiles of a task, down or across."""

_BLOCKS = (128, 256, 512, 1024)
"""Elements of k in a block, where that is not all of k."""

_SHORT_BLOCKS = (8, 32)
"""The same where rhs is read in place: few of its rows at a time, each in a long run."""

_ROWS_IN_PLACE = 32
"""Rows of x up to which it may pay to read rhs in place, in short blocks."""

_LATENCY = 8
"""Multiply-adds in flight that keep two units with a latency of four cycles busy."""

_LEAST_SUMS = 1 << 20
"""Partial sums that a task may have whatever the L2 cache is; else, four bytes each, they fill L2 four times."""

_SMALL = 1 << 22
"""Operations below which fewer threads than there are may be quicker."""


def supports(workload: Workload, device: Device) -> Support:
    """Products of f32 or bf16.

    All schedules add up a result in the order of K, one product (or pair of them) after the other: partial sums are
    read back where the next block goes on. So a row has the same bits whatever M is, if it is always multiplied alike.
    """
    act, right = str(workload["act"]), str(workload["rhs"] or workload["weight"])
    if act != right or act not in ("f32", "bf16") or str(workload["compute"]) not in ("f32", act):
        return Support.no(f"multiplies f32 or bf16 by the same, not act={act} with {right}")
    if str(workload["out"]) not in ("f32", "bf16"):
        return Support.no(f"writes f32 or bf16, not out={workload['out']}")
    limits = Limits.of(workload, device)
    widest = limits.widths[-1]
    padded = limits.batch * limits.k * math.ceil(limits.n / widest) * widest
    if max(padded, *(tensor.size for tensor in (*workload.operands, workload.result))) > _MAX_ELEMENTS:
        return Support.no("an operand has more than 2^31 elements")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    limits = Limits.of(workload, device)
    parameters = _parameters(workload, device, limits)
    constraints = [*_register_constraints(limits), *_cache_constraints(limits), *_reuse_constraints(limits)]
    if workload.flops >= _SMALL:
        constraints += _thread_constraints(limits)
    if limits.has_tiles:
        constraints += _tile_constraints(limits)
    if limits.has_pairs and limits.k % 2:
        constraints.append(Constraint("copy_x or multiply == 'single'", "the last number of a row is paired with zero"))
    if workload["rhs"] is not None:
        constraints += _rhs_constraints(limits)
    return Space(parameters, constraints, version=VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """The untuned choice, a point of the space."""
    return untuned(Limits.of(workload, device), space(workload, device))


def _parameters(workload: Workload, device: Device, limits: Limits) -> list[Parameter]:
    """Choices of each parameter (their meaning: :class:`fettle.backends.cpu.dense.family.Dense`)."""
    m, n, k = limits.m, limits.n, limits.k
    whole_tiles = shapes.heights(m) if limits.has_tiles else ()
    threads = _thread_counts(device) if workload.flops < _SMALL else (limits.threads,)
    reads_in_place = workload["rhs"] is not None and m <= _ROWS_IN_PLACE
    if workload["invariant"] and limits.has_pairs:  # in place bfloat16 is multiplied as f32
        reads_in_place = False
    blocks = (*_SHORT_BLOCKS, *_BLOCKS) if reads_in_place else _BLOCKS
    parameters = [
        Parameter("micro_m", tuple(sorted({*limits.vector_rows, *whole_tiles}))),
        Parameter("micro_n", limits.widths),
        Parameter("tile_m", _up_to(m, _TILES)),
        Parameter("tile_n", _up_to(math.ceil(n / limits.lanes), _TILES)),
        Parameter("tile_k", (*(block for block in blocks if block < k), k)),
        Parameter("unroll_k", tuple(steps for steps in (1, 2) if steps <= k)),
        Parameter.categorical("order", ("rows", "columns")),
        Parameter.categorical("inner", ("rows", "panels")),
        Parameter.categorical("copy_x", _copies(limits)),
        Parameter("prefetch", (0, 4, 16)),
        Parameter("threads", threads),
    ]
    if limits.is_narrow:
        pairs = ("pairs",) if limits.has_pairs else ()
        tiles = ("tiles",) if limits.has_tiles else ()
        single = ("single",) if reads_in_place or not limits.has_pairs else ()
        parameters.append(Parameter.categorical("multiply", (*pairs, *tiles, *single)))
    if workload["rhs"] is not None:
        in_place = reads_in_place or not limits.is_narrow
        parameters.append(Parameter.categorical("rhs", ("packed", "blocks", *(("direct",) if in_place else ()))))
    else:
        parameters.append(Parameter.categorical("pages", pages.choices(limits.packed_bytes(w) for w in limits.widths)))
    return parameters


def _copies(limits: Limits) -> tuple[bool, ...]:
    """Whether x is copied; a single row lies as a copy would, unless its last number has to be paired with zero."""
    return (False, True) if limits.m > 1 or limits.has_pairs else (False,)


def _up_to(extent: int, choices: tuple[int, ...]) -> tuple[int, ...]:
    """1, and choices less than twice the extent."""
    return tuple(c for c in choices if c == 1 or c // 2 < extent)


def _thread_counts(device: Device) -> tuple[int, ...]:
    """Powers of two up to half of the device's threads, and all of them."""
    most = cpu.threads(device)
    return tuple(count for count in cpu.thread_counts(device) if count == most or 2 * count <= most)


def _unless_tiles(limits: Limits) -> str:
    """Begins a condition that only vectors have to meet."""
    return "multiply == 'tiles' or " if limits.has_tiles else ""


def _register_constraints(limits: Limits) -> list[Constraint]:
    """Sizes of a register tile."""
    lanes, unless_tiles = limits.lanes, _unless_tiles(limits)
    most_vectors = min(4, math.ceil(limits.n / lanes))
    least = min(_LATENCY, max(limits.vector_rows) * most_vectors)
    return [
        Constraint(
            f"{unless_tiles}(micro_m + 1) * (micro_n // {lanes}) + {limits.x_registers} <= {limits.registers}",
            "the register tile, one row of W and x must fit in the registers",
        ),
        Constraint(
            f"{unless_tiles}micro_m * (micro_n // {lanes}) >= {least}",
            "a register tile must hold enough sums to hide the latency of adding",
        ),
        Constraint(f"micro_n < {limits.n} + {lanes}", "a register tile is not wider than W"),
    ]


def _cache_constraints(limits: Limits) -> list[Constraint]:
    """Sizes of a task and of its blocks of k."""
    m, n, k, l1, l2 = limits.m, limits.n, limits.k, limits.l1, limits.l2
    column_bytes = f"tile_k * {limits.element_bytes}"
    return [
        Constraint(f"tile_m == 1 or tile_m * micro_m < {m} + micro_m * 2", "a tile is not larger than x"),
        Constraint(f"tile_n == 1 or tile_n * micro_n < {n} + micro_n * 2", "a tile is not larger than W"),
        Constraint(
            f"tile_m == 1 and tile_n == 1 or {column_bytes} * (micro_n if inner == 'rows' else micro_m)"
            f" <= {l1 * 3 // 2} or tile_k <= {_BLOCKS[0]}",
            "what the innermost loop reuses must come from the L1 cache or stream from L2",
        ),
        Constraint(
            f"{column_bytes} * (tile_m * micro_m if inner == 'rows' else tile_n * micro_n) <= {l2 * 3 // 4}"
            " or tile_m == 1 and tile_n == 1",
            "what the outer loop of a task reuses must stay in the L2 cache",
        ),
        Constraint(
            f"tile_k == {k} or tile_m * micro_m * tile_n * micro_n <= {max(l2, _LEAST_SUMS)}",
            "partial sums must not leave the caches",
        ),
    ]


def _reuse_constraints(limits: Limits) -> list[Constraint]:
    """What large problems need besides: to load less than they multiply."""
    m, n, k, lanes = limits.m, limits.n, limits.k, limits.lanes
    constraints = []
    if m >= 8 and n >= 4 * lanes:
        loads = f"2 * micro_m * (micro_n // {lanes}) >= 3 * (micro_m + micro_n // {lanes})"
        constraints.append(Constraint(_unless_tiles(limits) + loads, "more multiply-adds than loads"))
    if m >= 32:
        reuse = "(tile_m if inner == 'rows' else tile_n) * (micro_m if inner == 'rows' else micro_n) >= 16"
        constraints += [
            Constraint(reuse, "what comes to the L1 cache must be used again"),
            Constraint(f"copy_x or micro_m <= 8 or {k} % 1024 != 0", "rows of x must not collide in the L1 cache"),
        ]
    return constraints


def _thread_constraints(limits: Limits) -> list[Constraint]:
    """Where there can be as many tasks as threads, there must be."""
    batch, m, n = limits.batch, limits.m, limits.n
    tasks = batch * max(1, m // 16) * max(1, n // (4 * limits.lanes))  # of one large register tile each
    if limits.threads == 1 or tasks < limits.threads:
        return []
    counted = f"{batch} * -(-{m} // (micro_m * tile_m)) * -(-{n} // (micro_n * tile_n))"
    return [Constraint(f"{counted} >= threads", "every thread has a task")]


def _tile_constraints(limits: Limits) -> list[Constraint]:
    """What products of tiles need, and what only they may do."""
    m, columns = limits.m, f"micro_n // {limits.lanes}"
    return [
        Constraint(f"multiply == 'tiles' or micro_m in {limits.vector_rows}", "heights of register tiles"),
        Constraint(f"multiply != 'tiles' or micro_m in {shapes.heights(m)}", "heights of whole tiles"),
        Constraint(
            f"multiply != 'tiles' or {shapes.fits('micro_m', columns)}", "sums, x and W must fit in the tile registers"
        ),
        Constraint("multiply != 'tiles' or unroll_k == 1 and prefetch == 0", "a product of tiles is 16 steps"),
        Constraint(
            f"copy_x or multiply != 'tiles' or {m} % micro_m == 0 and {limits.k} % {2 * TILE_DEPTH} == 0",
            "tiles of x are whole, or copied",
        ),
    ]


def _rhs_constraints(limits: Limits) -> list[Constraint]:
    """How a dynamic right-hand side may be read."""
    constraints = [
        Constraint(f"rhs != 'direct' or micro_n <= {limits.n}", "rows of rhs are read in whole register tiles"),
        Constraint(
            f"rhs != 'blocks' or tile_m * micro_m >= {limits.reusing_rows}", "a packed block must be used often"
        ),
        Constraint(
            f"rhs == 'direct' or tile_k >= {min(limits.k, _BLOCKS[0])}",
            "what is packed need not be read in short blocks",
        ),
    ]
    if limits.has_pairs:
        constraints.append(Constraint("(rhs == 'direct') == (multiply == 'single')", "pairs of rows are packed"))
    return constraints
