"""Where a search of low-bit products starts: what was fast elsewhere, and what is legal everywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

from fettle.backends.api import Schedule, Space
from fettle.backends.spaces import is_valid
from fettle.backends.triton.lowbit.product import Product
from fettle.backends.triton.lowbit.spaces import halfword_values, space
from fettle.backends.triton.targets import Target
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

_SMALL_BATCH = 16
"""Rows up to which unpacking weights, not multiplying, takes the time."""
_RAW_BATCH = 8
"""Rows up to which sums of codes as they lie cost less than making numbers of codes: those of one small instruction."""
_SHORT_GROUP = 32
"""Elements that share a scale, if taking out scales takes as long as taking out codes."""
_BYTES_BATCH = 65
"""Rows from which rounding them to bytes costs less than taking weights out of bytes and multiplying halves."""
_LARGE_BATCH = 512
"""Rows from which tiles of 128 of them fill the multiprocessors."""
_LARGEST_SUM = 4096
"""Results of a tile whose parts its last program adds."""
_MOST_PROGRAMS = 16
"""Programs a multiprocessor gets, at most, by splitting K."""
_FEW_REGISTERS = 96


def default(workload: Workload, target: Target) -> Schedule:
    """Bytes as bytes, if the batch is large and both may be; whole codes in words of 16 bits, multiplied as they lie
    if the batch is tiny; else :func:`converted`."""
    p = Product.of(workload)
    whole = space(workload, target)
    of_bytes = _first_legal(workload, whole, _byte_tiles(p, whole), target)
    if of_bytes is not None:
        return of_bytes
    tiles = list(_halfword_tiles(p, whole))
    # two warp groups beside each other, so that one takes codes out while the other multiplies
    small = [tile for tile in tiles if 8 * _shared(p, tile) <= tile["warps"] * target.shared_multiprocessor]
    if small and small[0]["block_m"] >= 64:  # a shallow pipeline costs less than reading all rows twice as often
        small.sort(key=lambda tile: (tile["scale"] != tiles[0]["scale"], -tile["block_n"]))
    return _first_legal(workload, whole, (*small, *tiles), target) or converted(workload, target)


def converted(workload: Workload, target: Target) -> Schedule:
    """The largest words, the smallest blocks that are legal."""
    p = Product.of(workload)
    whole = space(workload, target)
    found = _first_legal(workload, whole, _converted_tiles(p, whole), target)
    if found is None:
        raise Unsupported(f"no legal tile of {workload} fits {target.part}")
    return found


def _first_legal(workload: Workload, whole: Space, tiles: Iterable[dict[str, Any]], target: Target) -> Schedule | None:
    """The first of some tiles that is in the space, with K split as :func:`_split` has it."""
    p, splits = Product.of(workload), whole.choices["split"]
    largest = _LARGEST_SUM if workload["epilogue"] is None else math.inf
    for tile in tiles:
        count = -(-p.m // tile["block_m"]) * -(-p.n // tile["block_n"])
        allowed = [s for s in splits if s * tile["block_k"] <= p.k]
        split = tile.get("split") or _split(p, tile, count, allowed, target)
        # the program that is last adds all parts of its tile alone, which takes longer than a launch if tiles are large
        reduce = "last" if split > 1 and tile["block_m"] * tile["block_n"] <= largest else "launch"
        common: dict[str, Any] = {
            "algorithm": "float",
            "swap": True,
            "order": "tiles",
            "planes": "one",
            "settle": False,
            "overlap": False,
            "registers": _registers(p, tile, count * split, target),
        }
        schedule = Schedule.of(**(common | {"split": split, "reduce": reduce} | tile))
        if is_valid(whole, schedule):
            return schedule
    return None


def _split(p: Product, tile: dict[str, Any], count: int, splits: Iterable[int], target: Target) -> int:
    """Parts of K that fill whole rounds of ``count`` programs a part, and whose sums cost little.

    Programs that fit beside each other share a multiprocessor; where more come, the last of them leave some of it
    idle. Where parts are uneven, passes are half as many as the most and half as the mean. What is added a part (f32,
    written and read) is weighed against the weight's bytes; a warp group alone waits for some of its time.
    """
    resident, blocks = _resident(p, tile, target), p.k // tile["block_k"]

    def cost(split: int) -> float:
        rounds = -(-count * split // target.multiprocessors)
        if split > 1 and rounds > _MOST_PROGRAMS:
            return math.inf
        full, rest = divmod(rounds, resident)
        busy = full * resident + (math.sqrt(rest * resident) if full else rest)
        sums = max(0.02, 8.0 * p.m / (p.k * p.weight.bits))
        alone = 0.2 * 4 / (tile["warps"] * min(rounds, resident))
        passes = (blocks / split - (-blocks // split)) / 2
        return float(busy * passes * (1.0 + sums * (split - 1)) * (1.0 + alone))

    return min(splits, key=cost, default=1)


def _resident(p: Product, tile: dict[str, Any], target: Target) -> int:
    """Programs that fit on a multiprocessor, if threads take 128 registers."""
    by_registers = target.registers // (128 * target.warp * int(tile["warps"]))
    return max(1, min(int(target.shared_multiprocessor // _shared(p, tile)), by_registers))


def _registers(p: Product, tile: dict[str, Any], programs: int, target: Target) -> int:
    """Few where more programs come to a multiprocessor than fit if the assembler takes what it likes (137 for four
    bits and K in even parts), and none go to local memory."""
    few = tile["method"] == "ptx" and tile["block_m"] <= _SMALL_BATCH and p.weight.bits < 8
    return _FEW_REGISTERS if few and programs > 4 * target.multiprocessors and target.kind == "cuda" else 0


def _shared(p: Product, tile: dict[str, Any]) -> float:
    """Bytes of shared memory that a tile's pipeline takes; of the weight, one stage is in registers.

    So is one of the activations where small instructions multiply them, those of eight rows.
    """
    stages, block_k, block_n = tile["stages"], tile["block_k"], tile["block_n"]
    rows = tile["block_m"] * (stages - 1 if tile["block_m"] <= 8 else stages)
    scales = 4 * stages * block_n * (1 + p.weight.zero_points)
    return float(block_k * (2 * rows + (stages - 1) * p.weight.bits * block_n / 8) + scales)


def _byte_tiles(p: Product, whole: Space) -> Iterator[dict[str, Any]]:
    """Tiles of weights that are bytes with one scale a row, by activations that are rounded to bytes.

    K is whole: such products take less time than adding parts would.
    """
    algorithm = next((a for a in whole.choices["algorithm"] if a != "float"), None)
    if algorithm is None or p.weight.bits != 8 or p.group != p.k or p.m < _BYTES_BATCH:
        return
    rows = ((128, 8), (64, 4)) if p.m >= _LARGE_BATCH else ((64, 4), (128, 8))
    for (block_m, warps), block_n, block_k, stages in itertools.product(rows, (128, 64), (128, 64, 32), (3, 2)):
        yield {
            "algorithm": algorithm, "method": "convert", "scale": "late", "swap": False, "contiguous": "k",
            "split": 1, "values": 1, "block_m": block_m, "block_n": block_n, "block_k": block_k, "warps": warps,
            "stages": stages,
        }  # fmt: skip


def _halfword_tiles(p: Product, whole: Space) -> Iterator[dict[str, Any]]:
    """Tiles among the fastest measured (eight rows and fewer) or predicted for an H200, wide ones first.

    All rows share a tile, up to 128, so that each code is taken out once.
    """
    choices = whole.choices
    block_m = min((b for b in choices["block_m"] if b >= p.m), default=max(choices["block_m"]))
    raw = block_m <= _RAW_BATCH and p.group >= 64 and "raw" in choices["method"]
    blocks: tuple[int, ...] = (128, 256, 64, 32)
    if block_m <= _SMALL_BATCH:
        blocks = (256, 512, 128, 64, 32)
    elif block_m >= 128:
        blocks = (128, 64, 32, 256)
    values = halfword_values(p)
    # an early scale is a product for two weights, a late one a sum for each result of each group, and registers
    late_first = p.group >= max(64, 2 * block_m) and block_m * values < 1024
    scales: tuple[str, ...] = ("early", "late")
    if raw:
        scales = ("late",)
    elif late_first:
        scales = ("late", "early")
    widths: tuple[tuple[int, int], ...]  # of tiles, with their warps
    if block_m >= 64:
        widths = ((128, 4), (64, 4))
    elif raw:
        widths = ((64, 2), (128, 4), (32, 2))
    elif block_m <= _RAW_BATCH and p.group <= _SHORT_GROUP:
        widths = ((128, 4), (64, 4), (64, 2), (32, 2))
    else:
        widths = ((64, 4), (128, 4), (64, 2), (32, 2))
    for scale, stages, (block_n, warps), block_k in itertools.product(scales, (3, 2), widths, blocks):
        yield {
            "method": "raw" if raw else "ptx", "scale": scale, "contiguous": "n" if raw else "k", "values": values,
            "block_m": block_m, "block_n": block_n, "block_k": block_k, "warps": warps, "stages": stages,
            "settle": scale == "early" and block_m >= 64,
        }  # fmt: skip


def _converted_tiles(p: Product, whole: Space) -> Iterator[dict[str, Any]]:
    choices = whole.choices
    block_m = min(b for b in choices["block_m"] if b >= min(p.m, max(choices["block_m"])))
    method = "magic" if "magic" in choices["method"] else "convert"
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
            "method": method, "scale": scale, "contiguous": "k", "values": values, "block_m": rows,
            "block_n": block_n, "block_k": block_k, "warps": warps, "stages": stages,
        }  # fmt: skip
