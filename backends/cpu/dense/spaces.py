"""Schedules of the dense family: what is worth trying, and the untuned choice.

A point is in the space only if its register tile is large enough to hide the latency of multiply-adds and fits
the registers, what its innermost loop reuses is not far larger than L1, and what a task reuses stays in L2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Value
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import shapes
from fettle.backends.cpu.dense.geometry import TILE_DEPTH, multiplies_pairs, multiplies_tiles
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.graph.workload import Workload

VERSION = "dense-5"

_L1, _L2 = 32 << 10, 512 << 10
"""Bytes assumed where the machine does not tell."""

_MICRO_ROWS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
"""Rows of a register tile of vectors."""

_LEAST_TILE_ROWS = 8
"""Rows of x from which tiles are the untuned choice."""

_LATENCY = 8
"""Multiply-adds in flight that keep two units with a latency of four cycles busy."""

_REUSE = 64
"""Rows of x from which it may pay that each task packs its own part of rhs."""

_SMALL = 1 << 22
"""Operations below which fewer threads than there are may be quicker."""


def micro_widths(device: Device) -> tuple[int, ...]:
    """Widths of a register tile: one to eight vectors."""
    lanes = cpu.vector_bits(device) // 32
    return tuple(lanes * count for count in (1, 2, 3, 4, 6, 8))


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    values = workload.values
    m, n, k, batch = values["m"], values["n"], values["k"], values["batch"]
    lanes, most = cpu.vector_bits(device) // 32, cpu.threads(device)
    registers = 32 if lanes == 16 else 16
    size = 2 if multiplies_pairs(workload, device) else 4
    l1, l2 = _cache_bytes(device)
    narrow = str(values["act"]) != "f32"
    has_tiles = multiplies_tiles(workload, device)
    unless_tiles = "multiply == 'tiles' or " if has_tiles else ""
    vector_rows = tuple(r for r in _MICRO_ROWS if r <= m)
    parameters = [
        Parameter("micro_m", tuple(sorted({*vector_rows, *(shapes.heights(m) if has_tiles else ())}))),
        Parameter("micro_n", micro_widths(device)),
        Parameter("tile_m", _up_to(m, (1, 2, 4, 8, 16, 32, 64))),
        Parameter("tile_n", _up_to(math.ceil(n / lanes), (1, 2, 4, 8, 16, 32, 64))),
        Parameter("tile_k", (*(t for t in (128, 256, 512, 1024) if t < k), k)),
        Parameter("unroll_k", tuple(u for u in (1, 2) if u <= k)),
        Parameter.categorical("order", ("rows", "columns")),
        Parameter.categorical("inner", ("rows", "panels")),
        Parameter.categorical("copy_x", _copies(workload, has_tiles)),
        Parameter("prefetch", (0, 4, 16)),
        Parameter("threads", _thread_counts(most) if workload.flops < _SMALL else (most,)),
    ]
    most_rows = max(vector_rows)
    most_vectors = max(v for v in (1, 2, 3, 4) if v <= math.ceil(n / lanes))
    least = min(_LATENCY, most_rows * most_vectors)
    constraints = [
        Constraint(
            f"{unless_tiles}(micro_m + 1) * (micro_n // {lanes}) + {0 if lanes == 16 else 1} <= {registers}",
            "the register tile, one row of W and x must fit in the registers",
        ),
        Constraint(
            f"{unless_tiles}micro_m * (micro_n // {lanes}) >= {least}",
            "a register tile must hold enough sums to hide the latency of adding",
        ),
        Constraint(f"micro_n < {n} + {lanes}", "a register tile is not wider than W"),
        Constraint(f"tile_m == 1 or tile_m * micro_m < {m} + micro_m * 2", "a tile is not larger than x"),
        Constraint(f"tile_n == 1 or tile_n * micro_n < {n} + micro_n * 2", "a tile is not larger than W"),
        Constraint(
            f"tile_m == 1 and tile_n == 1 or tile_k * {size} * (micro_n if inner == 'rows' else micro_m)"
            f" <= {l1 * 3 // 2} or tile_k <= 128",
            "what the innermost loop reuses must come from the L1 cache or stream from L2",
        ),
        Constraint(
            f"tile_k * {size} * (tile_m * micro_m if inner == 'rows' else tile_n * micro_n) <= {l2 * 3 // 4}"
            " or tile_m == 1 and tile_n == 1",
            "what the outer loop of a task reuses must stay in the L2 cache",
        ),
        Constraint(
            f"tile_k == {k} or tile_m * micro_m * tile_n * micro_n <= {max(l2, 1 << 20)}",
            "partial sums must not leave the caches",
        ),
    ]
    if m >= 8 and n >= 4 * lanes:
        loads = f"2 * micro_m * (micro_n // {lanes}) >= 3 * (micro_m + micro_n // {lanes})"
        constraints.append(Constraint(unless_tiles + loads, "more multiply-adds than loads"))
    if m >= 32:
        reuse = "(tile_m if inner == 'rows' else tile_n) * (micro_m if inner == 'rows' else micro_n) >= 16"
        constraints.append(Constraint(reuse, "what comes to the L1 cache must be used again"))
        constraints.append(
            Constraint(f"copy_x or micro_m <= 8 or {k} % 1024 != 0", "rows of x must not collide in the L1 cache")
        )
    if most > 1:
        tasks = f"{batch} * -(-{m} // (micro_m * tile_m)) * -(-{n} // (micro_n * tile_n))"
        smallest = batch * max(1, m // 16) * max(1, n // (4 * lanes))
        if workload.flops >= _SMALL and smallest >= most:
            constraints.append(Constraint(f"{tasks} >= threads", "every thread has a task"))
    if narrow:
        multiply = "pairs" if multiplies_pairs(workload, device) else "single"
        parameters.append(Parameter.categorical("multiply", (multiply, "tiles") if has_tiles else (multiply,)))
    if has_tiles:
        constraints += [
            Constraint(f"multiply == 'tiles' or micro_m in {vector_rows}", "heights of register tiles"),
            Constraint(f"multiply != 'tiles' or micro_m in {shapes.heights(m)}", "heights of whole tiles"),
            Constraint(
                f"multiply != 'tiles' or {shapes.fits('micro_m', f'micro_n // {lanes}')}",
                "sums, x and W must fit in the tile registers",
            ),
            Constraint("multiply != 'tiles' or unroll_k == 1 and prefetch == 0", "a product of tiles is 16 steps"),
            Constraint(f"copy_x or multiply == 'tiles' and {m} % micro_m == 0", "tiles of x are whole, or copied"),
        ]
    if values["rhs"] is not None:
        direct = size == 4 and str(values["rhs"]) == "f32"
        parameters.append(Parameter.categorical("rhs", ("packed", "blocks", *(("direct",) if direct else ()))))
        constraints += [
            Constraint(f"rhs != 'direct' or {n} % micro_n == 0", "rows of rhs are read in whole register tiles"),
            Constraint(f"rhs != 'blocks' or tile_m * micro_m >= {min(m, _REUSE)}", "a packed block must be used often"),
        ]
    return Space(parameters, constraints, version=VERSION)


def _cache_bytes(device: Device) -> tuple[int, int]:
    """L1 and L2 of a core."""
    return cpu.cache_bytes(device, "L1d") or _L1, cpu.cache_bytes(device, "L2") or _L2


def _copies(workload: Workload, has_tiles: bool) -> tuple[bool, ...]:
    """Whether x may be read where it is: as f32, or as tiles that K is whole in."""
    if workload["act"].kind == "f32":
        return (False, True) if workload["m"] > 1 else (False,)
    return (False, True) if has_tiles and workload["k"] % (2 * TILE_DEPTH) == 0 else (True,)


def default(workload: Workload, device: Device, space: Space) -> Schedule:
    """The untuned choice, a point of the space."""
    tiles = multiplies_tiles(workload, device) and workload["m"] >= _LEAST_TILE_ROWS
    return _nearest(space, (_tiles_wish if tiles else _vectors_wish)(workload, device, space))


def _vectors_wish(workload: Workload, device: Device, space: Space) -> dict[str, Value]:
    """All rows that a task may have pass over a few panels, which stay in L2, while each strip of x stays in L1.

    Up to four rows read W once, one panel after the other.
    """
    m, n, k = (workload[name] for name in "mnk")
    lanes, threads = cpu.vector_bits(device) // 32, cpu.threads(device)
    choices = {p.name: p.choices for p in space.parameters}
    size = 2 if multiplies_pairs(workload, device) else 4
    wide = 4 * lanes if m <= 4 else 2 * lanes
    micro_n = _largest(choices["micro_n"], max(lanes, min(wide, n)))
    limit = (32 if lanes == 16 else 15) // (micro_n // lanes) - 1
    micro_m = max(r for r in _MICRO_ROWS if r <= min(limit, 8, m))
    tile_m = tile_n = 1
    tile_k = k
    if m > 4:
        l1, l2 = _cache_bytes(device)
        tile_k = _largest(choices["tile_k"], min(1024, l1 // (size * micro_m)))
        tile_m = _largest(choices["tile_m"], math.ceil(m / micro_m))
        share = math.ceil(n / micro_n / (threads if tile_m * micro_m >= m else 1))
        tile_n = _largest(choices["tile_n"], min(share, l2 // 2 // (tile_k * size * micro_n)))
    wish: dict[str, Value] = {
        "micro_m": micro_m,
        "micro_n": micro_n,
        "tile_m": tile_m,
        "tile_n": tile_n,
        "tile_k": tile_k,
        "unroll_k": 1,
        "order": "columns",
        "inner": "panels",
        "copy_x": workload["act"].kind != "f32",
        "prefetch": 0,
        "threads": threads,
    }
    if "multiply" in choices:
        wish["multiply"] = choices["multiply"][0]
    if "rhs" in choices:
        reused = tile_m * micro_m >= min(m, _REUSE)
        direct = m <= 8 and n % micro_n == 0 and "direct" in choices["rhs"]
        wish["rhs"] = "direct" if direct else "blocks" if reused else "packed"
    return wish


def _tiles_wish(workload: Workload, device: Device, space: Space) -> dict[str, Value]:
    """Register tiles of two by two tiles; a panel stays in L1 while all micro rows of the task pass over it."""
    m, n, k = (workload[name] for name in "mnk")
    lanes, threads = cpu.vector_bits(device) // 32, cpu.threads(device)
    choices = {p.name: p.choices for p in space.parameters}
    micro_n = _largest(choices["micro_n"], max(lanes, min(2 * lanes, n)))
    micro_m = max(h for h in shapes.heights(m) if h <= 2 * shapes.ROWS)
    per_thread = math.ceil(m / micro_m / threads) if m > 4 * micro_m * threads else math.ceil(m / micro_m)
    share = math.ceil(n / micro_n / threads) if per_thread * micro_m >= m else math.ceil(n / micro_n)
    wish: dict[str, Value] = {
        "micro_m": micro_m,
        "micro_n": micro_n,
        "tile_m": _largest(choices["tile_m"], min(16, per_thread)),
        "tile_n": _largest(choices["tile_n"], min(32, share)),
        "tile_k": min(k, 1024),
        "unroll_k": 1,
        "order": "rows",
        "inner": "rows",
        "copy_x": True,
        "prefetch": 0,
        "threads": threads,
        "multiply": "tiles",
    }
    return wish | ({"rhs": "packed"} if "rhs" in choices else {})


def _largest(choices: Sequence[Value], limit: int) -> int:
    """The largest choice up to a limit, or the smallest of all."""
    numbers = [int(c) for c in choices]
    return max((c for c in numbers if c <= limit), default=min(numbers))


def _nearest(space: Space, wish: dict[str, Value]) -> Schedule:
    """The point of the space with the fewest and smallest differences to a wish."""
    schedule = Schedule(tuple(wish.items()))
    if is_valid(space, schedule):
        return schedule
    points = enumerate_space(space)
    encoded = points.encode(np.arange(len(points)))
    distance = np.zeros(len(points))
    for column, parameter in zip(encoded.T, space.parameters, strict=True):
        wanted = wish[parameter.name]
        if parameter.is_numeric and int(wanted):
            distance += np.abs(np.log2(np.maximum(column, 0.5) / int(wanted)))
        else:
            distance += column != (wanted if parameter.is_numeric else parameter.choices.index(wanted))
    return points[int(distance.argmin())]


def _thread_counts(most: int) -> tuple[int, ...]:
    return tuple(sorted({most, *(1 << i for i in range(most.bit_length() - 1))}))


def _up_to(extent: int, choices: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(c for c in choices if c == 1 or c // 2 < extent)
