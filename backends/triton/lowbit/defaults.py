"""Where a search of low-bit products starts: what was fast elsewhere, and what is legal everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from fettle.backends.api import Schedule, Space
from fettle.backends.spaces import is_valid
from fettle.backends.triton.lowbit.spaces import Product, raw_values, space
from fettle.backends.triton.targets import Target
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

_SMALL_BATCH = 16
"""Rows up to which unpacking weights, not multiplying, takes the time."""
_RAW_PROGRAMS = 3
"""Programs of such kernels that fit beside each other on a multiprocessor, at least."""


def default(workload: Workload, target: Target) -> Schedule:
    """The first legal one of: codes multiplied as they lie, if the batch is small; :func:`converted`."""
    p = Product.of(workload)
    whole = space(workload, target)
    found = _first_legal(p, whole, _raw_tiles(p), _RAW_PROGRAMS * target.multiprocessors)
    return found or converted(workload, target)


def converted(workload: Workload, target: Target) -> Schedule:
    """The largest words, the smallest blocks that are legal."""
    p = Product.of(workload)
    whole = space(workload, target)
    found = _first_legal(p, whole, _converted_tiles(p, whole), target.multiprocessors)
    if found is None:
        raise Unsupported(f"no legal tile of {workload} fits {target.part}")
    return found


def _first_legal(p: Product, whole: Space, tiles: Iterable[dict[str, Any]], programs: int) -> Schedule | None:
    """The first of some tiles that is in the space, with K split as far as there are that many programs."""
    splits = _choices(whole)["split"]
    for tile in tiles:
        count = -(-p.m // tile["block_m"]) * -(-p.n // tile["block_n"])
        split = max((s for s in splits if s * tile["block_k"] <= p.k and s * count <= programs), default=1)
        reduce = "last" if split > 1 else "launch"
        schedule = Schedule.of(algorithm="float", swap=True, order="tiles", split=split, reduce=reduce, **tile)
        if is_valid(whole, schedule):
            return schedule
    return None


def _raw_tiles(p: Product) -> Iterator[dict[str, Any]]:
    """Tiles that were among the fastest measured on an H200 for all widths, wide ones first."""
    if p.m > _SMALL_BATCH:
        return
    block_m = 8 if p.m <= 8 else 16
    for planes, values in raw_values(p).items():
        for block_n, block_k, warps, stages in itertools.product((64, 32), (512, 256, 128, 64), (4, 2), (3, 2)):
            yield {
                "method": "raw", "scale": "late", "planes": planes, "contiguous": "n", "values": values,
                "block_m": block_m, "block_n": block_n, "block_k": block_k, "warps": warps, "stages": stages,
            }  # fmt: skip


def _converted_tiles(p: Product, whole: Space) -> Iterator[dict[str, Any]]:
    choices = _choices(whole)
    block_m = min(b for b in choices["block_m"] if b >= min(p.m, max(choices["block_m"])))
    method = choices["method"][min(1, len(choices["method"]) - 1)]
    if p.m > _SMALL_BATCH:  # among the fastest predicted
        for (block_n, warps), block_k, values, scale in itertools.product(
            ((256, 8), (128, 4), (64, 4)), (128, 64), sorted(choices["values"]), reversed(choices["scale"])
        ):
            yield {
                "method": method, "scale": scale, "planes": "one", "contiguous": "n", "values": values,
                "block_m": min(block_m, 64), "block_n": block_n, "block_k": block_k, "warps": warps, "stages": 3,
            }  # fmt: skip
    preferred = itertools.product(
        sorted(choices["values"], reverse=True),
        (64, 128, 32, 16),
        sorted(choices["block_k"]),
        choices["scale"],
        (4, 2, 8),
        (3, 2),
        sorted({block_m, 16}, reverse=True),
    )
    for values, block_n, block_k, scale, warps, stages, rows in preferred:
        yield {
            "method": method, "scale": scale, "planes": "one", "contiguous": "k", "values": values,
            "block_m": rows, "block_n": block_n, "block_k": block_k, "warps": warps, "stages": stages,
        }  # fmt: skip


def _choices(whole: Space) -> dict[str, tuple[Any, ...]]:
    return {parameter.name: parameter.choices for parameter in whole.parameters}
