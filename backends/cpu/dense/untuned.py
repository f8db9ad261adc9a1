"""The untuned choice: what one would write first, and the point of the space that is nearest to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Schedule, Space, Value
from fettle.backends.cpu.amx import shapes
from fettle.backends.cpu.dense.limits import Limits
from fettle.backends.spaces import enumerate_space, is_valid

_LEAST_TILE_ROWS = 8
"""Rows of x from which tiles are the untuned choice."""

_DEEPEST = 1024
"""Elements of k in a block at most."""


_FEW = {False: 8, True: 16}
_FEW_NARROW = {False: 4, True: 8}
"""Rows of x up to which a dynamic rhs is read in place, by whether it is larger than a core's cache. Of bfloat16 it is
multiplied in f32 then: pairs of its rows would have to be packed."""


def untuned(limits: Limits, space: Space) -> Schedule:
    """A point of the space."""
    choices = {parameter.name: parameter.choices for parameter in space.parameters}
    has_tiles = limits.has_tiles and limits.m >= _LEAST_TILE_ROWS
    wish = (_tiles_wish if has_tiles else _vectors_wish)(limits, choices)
    return _nearest(space, wish | ({"pages": "system"} if "pages" in choices else {}))


def _vectors_wish(limits: Limits, choices: Mapping[str, Sequence[Value]]) -> dict[str, Value]:
    """All rows that a task may have pass over a few panels, which stay in L2, while each strip of x stays in L1.

    Up to four rows read W once, one panel after the other. More have panels of two vectors, or three where fewer
    columns are padded then.
    """
    m, n, k, lanes = limits.m, limits.n, limits.k, limits.lanes
    vectors = min((2, 3), key=lambda wide: math.ceil(n / lanes / wide) * wide) if m > 4 else 4
    micro_n = _largest(choices["micro_n"], min(vectors, math.ceil(n / lanes)) * lanes)
    most_rows = (limits.registers - limits.x_registers) // (micro_n // lanes) - 1
    micro_m = max(rows for rows in limits.vector_rows if rows <= min(most_rows, 14 if micro_n == lanes else 8))
    tile_m = tile_n = 1
    tile_k = k
    if m > 4:
        tile_k = _largest(choices["tile_k"], min(_DEEPEST, limits.l1 // (limits.element_bytes * micro_m)))
        tile_m = _largest(choices["tile_m"], math.ceil(m / micro_m))
        sharers = limits.threads if tile_m * micro_m >= m else 1
        panel_bytes = tile_k * limits.element_bytes * micro_n
        tile_n = _largest(choices["tile_n"], min(math.ceil(n / micro_n / sharers), limits.l2 // 2 // panel_bytes))
    wish: dict[str, Value] = {
        "micro_m": micro_m,
        "micro_n": micro_n,
        "tile_m": tile_m,
        "tile_n": tile_n,
        "tile_k": tile_k,
        "unroll_k": 1,
        "order": "columns",
        "inner": "panels",
        "copy_x": limits.has_pairs and limits.k % 2 == 1,
        "prefetch": 0,
        "threads": limits.threads,
    }
    if "multiply" in choices:
        wish["multiply"] = choices["multiply"][0]
    if "rhs" in choices:
        wish["rhs"] = "blocks" if tile_m * micro_m >= limits.reusing_rows else "packed"
        if "direct" in choices["rhs"] and n >= lanes:
            wish |= _in_place_wish(limits, choices, _largest(choices["micro_n"], min(micro_n, n)))
    return wish


def _in_place_wish(limits: Limits, choices: Mapping[str, Sequence[Value]], micro_n: int) -> dict[str, Value]:
    """What differs where few rows of x make packing rhs cost more than it saves.

    A rhs that no core's cache holds is read a few rows at a time, each in as long a run as there is: down a panel,
    every line would be in another page.
    """
    m, n, k = limits.m, limits.n, limits.k
    is_large = k * n * limits.element_bytes > limits.l2
    if m > (_FEW_NARROW[is_large] if limits.is_narrow else _FEW[is_large]):
        return {}
    wish: dict[str, Value] = {"rhs": "direct", "micro_n": micro_n}
    if "multiply" in choices:
        wish |= {"multiply": "single", "copy_x": False}
    if is_large:
        sharers = limits.threads if limits.batch == 1 else 1
        wish["tile_k"] = min(int(block) for block in choices["tile_k"])
        wish["tile_n"] = _largest(choices["tile_n"], math.ceil(n / micro_n / sharers))
    return wish


def _tiles_wish(limits: Limits, choices: Mapping[str, Sequence[Value]]) -> dict[str, Value]:
    """Register tiles of two by two tiles; a panel stays in L1 while all micro rows of the task pass over it."""
    m, n, lanes, threads = limits.m, limits.n, limits.lanes, limits.threads
    micro_n = _largest(choices["micro_n"], max(lanes, min(2 * lanes, n)))
    micro_m = max(rows for rows in shapes.heights(m) if rows <= 2 * shapes.ROWS)
    shares_rows = m > 4 * micro_m * threads
    tile_m = math.ceil(m / micro_m / threads) if shares_rows else math.ceil(m / micro_m)
    shares_panels = tile_m * micro_m >= m
    tile_n = math.ceil(n / micro_n / threads) if shares_panels else math.ceil(n / micro_n)
    wish: dict[str, Value] = {
        "micro_m": micro_m,
        "micro_n": micro_n,
        "tile_m": _largest(choices["tile_m"], min(16, tile_m)),
        "tile_n": _largest(choices["tile_n"], min(32, tile_n)),
        "tile_k": min(limits.k, _DEEPEST),
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
    """The point of the space with the fewest and smallest differences to a wish: one for each name, and for a number
    as many as the doublings it is away."""
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
