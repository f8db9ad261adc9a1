"""The space of mappings of a matrix product, and the textbook's choice in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fettle.backends.api import Constraint, Parameter, Space, Value
from fettle.backends.npu.systolic import folds
from fettle.backends.npu.systolic.hardware import LUT, Systolic
from fettle.backends.npu.systolic.product import ACCUMULATOR_BYTES, Product
from fettle.graph.errors import Unsupported

ORDERS = ("mnk", "mkn", "nmk", "nkm", "kmn", "knm")
"""Loops over tiles, outermost first."""

_TEXTBOOK_ORDER = {folds.OUTPUT: "nmk", folds.WEIGHT: "nkm", folds.INPUT: "mkn"}
"""SCALE-Sim's nest of loops: what lies over the columns, what lies over the rows, what is streamed. So weights or
inputs that stay in the array are loaded once."""

_MOST_STEPS = 1 << 17
TILES = ("tile_m", "tile_n", "tile_k")


def space(product: Product, hardware: Systolic) -> Space:
    """Tiles in the scratchpad, order of the loops over them, dataflow, buffering, split over a mesh."""
    dataflows = (folds.OUTPUT,) if hardware.pe == LUT else folds.DATAFLOWS
    parameters = [
        Parameter("dataflow", dataflows),
        *(Parameter(name, _choices(extent, hardware)) for name, extent in zip(TILES, product.extents, strict=True)),
        Parameter("order", ORDERS),
        Parameter("buffers", (1, 2)),
    ]
    if hardware.arrays > 1:
        parameters.append(Parameter("split", ("k", "m", "n")))
    m, n, k = product.extents
    weights = product.weight_centibits
    hundredths = {  # of bits
        "tile_m * tile_k": (100 * product.act.bits, f"tile_m >= {m} and tile_k >= {k}"),
        "tile_n * tile_k": (weights, f"tile_n >= {n} and tile_k >= {k}"),
        "tile_m * tile_n": (800 * ACCUMULATOR_BYTES, f"tile_m >= {m} and tile_n >= {n}"),
    }
    slots = "buffers" if product.batch > 1 else "(1 if {} else buffers)"
    need = " + ".join(f"{slots.format(once)} * {tile} * {each}" for tile, (each, once) in hundredths.items())
    steps = " * ".join(f"(({e} + {t} - 1) // {t})" for t, e in zip(TILES, (m, n, k), strict=True))
    constraints = (
        Constraint(f"{need} <= {800 * hardware.sram_bytes}", "tiles fit the scratchpad"),
        Constraint(f"{steps} <= {_MOST_STEPS}", "not too many tiles"),
    )
    return Space(parameters, constraints)


def _choices(extent: int, hardware: Systolic) -> tuple[int, ...]:
    """Powers of two from half an array's side, its sides, and the extent itself."""
    least = max(16, min(hardware.rows, hardware.cols) // 2)
    sizes = {1 << i for i in range(4, 31) if 1 << i >= least} | {hardware.rows, hardware.cols}
    return tuple(sorted({size for size in sizes if size < extent} | {extent}))


def textbook(product: Product, hardware: Systolic, given: Mapping[str, Value]) -> dict[str, Value]:
    """One fold of the array a tile, the streamed dimension in pieces as large as fit the scratchpad twice; more folds
    where they save traffic (:func:`_more_folds`).

    Raises:
        Unsupported: not even the smallest pieces fit.
    """
    dataflow = str(given.get("dataflow", folds.OUTPUT))
    folding = folds.FOLDINGS.get(dataflow, folds.FOLDINGS[folds.OUTPUT])  # a wrong name is reported by the space
    tiles = list(product.extents)
    tiles[folding.over_rows] = min(tiles[folding.over_rows], hardware.rows)
    tiles[folding.over_cols] = min(tiles[folding.over_cols], hardware.cols)
    for at, name in enumerate(TILES):
        if type(given.get(name)) is int:
            tiles[at] = max(1, int(given[name]))
    chosen: dict[str, Value] = {"dataflow": dataflow, "order": _TEXTBOOK_ORDER.get(dataflow, "mnk"), "buffers": 2}
    if hardware.arrays > 1:
        chosen["split"] = max("mnk", key=lambda d: product.extents["mnk".index(d)] if d != "k" else 0)
    buffers = int(given["buffers"]) if given.get("buffers") in (1, 2) else 2

    def fit(some: Sequence[int]) -> bool:
        return _scratchpad_bits(product, some, buffers) <= 8 * hardware.sram_bytes

    if TILES[folding.streamed] not in given:
        for size in reversed(_choices(product.extents[folding.streamed], hardware)):
            tiles[folding.streamed] = size
            if fit(tiles):
                break
        else:
            if not any(name in given for name in TILES):  # else the space says what is wrong with those given
                raise Unsupported(
                    f"a scratchpad of {hardware.sram} KiB holds no tile of this product",
                    hint="the device needs more sram",
                )
    split = given.get("split", chosen.get("split"))
    share = [-(-e // hardware.arrays) if d == split else e for d, e in zip("mnk", product.extents, strict=True)]
    larger = (some for some in _more_folds(product, folding, tiles, share) if fit(some))
    if given.keys().isdisjoint(TILES):
        tiles = next(larger, tiles)
    chosen.update(zip(TILES, tiles, strict=True))
    return chosen


def _more_folds(
    product: Product, folding: folds.Folding, tiles: list[int], share: Sequence[int]
) -> Iterator[list[int]]:
    """Tiles of all folds along the rows of the array, and of all along its columns: with either, everything is loaded
    once. One fold a tile loads an operand again for every other fold, if there are several both ways.

    Args:
        tiles: one fold.
        share: of the product's extents, what one array of a mesh has.
    """
    over = (folding.over_rows, folding.over_cols)
    if tiles[folding.streamed] < product.extents[folding.streamed]:
        return  # each piece of what is streamed would fill and drain the array for each fold
    if all(tiles[at] < share[at] for at in over):
        for at in over:
            yield [*tiles[:at], product.extents[at], *tiles[at + 1 :]]


def _scratchpad_bits(product: Product, tiles: Sequence[int], buffers: int) -> float:
    """Bits that all slots take; an operand that is loaded only once has one (see :mod:`residency`)."""
    bits = {(0, 2): product.act.bits, (1, 2): product.weight_centibits / 100, (0, 1): 8 * ACCUMULATOR_BYTES}
    need = 0.0
    for (one, two), each in bits.items():
        once = product.batch == 1 and tiles[one] >= product.extents[one] and tiles[two] >= product.extents[two]
        need += (1 if once else buffers) * tiles[one] * tiles[two] * each
    return need
