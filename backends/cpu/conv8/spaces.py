"""What the family makes, its schedules, and the untuned one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.conv.geometry import band_heights
from fettle.backends.cpu.conv8.plan import Plan
from fettle.backends.cpu.integers.words import WORD
from fettle.backends.spaces import is_valid
from fettle.graph.operators.codes import CODES
from fettle.graph.workload import Workload

VERSION = "conv8-2"

_MAX_ELEMENTS = 2**27
"""Of an operand, and of what a task copies: index arithmetic in the kernels is 32 bits wide."""

_TILES = (
    *((8, 3), (12, 2), (6, 4), (8, 2), (4, 4), (6, 3), (6, 2), (4, 3), (4, 2), (8, 1), (12, 1), (2, 4), (2, 3)),
    *((6, 1), (4, 1), (1, 8), (1, 6), (1, 4), (1, 3), (2, 2), (1, 2), (2, 1), (1, 1)),
)
"""Register tiles (micro_oc, vectors) of the untuned choice, the better ones first."""


def supports(workload: Workload, device: Device) -> Support:
    """Convolutions of codes whose operands, and what a task of the untuned schedule copies, offsets reach."""
    if workload["act"].kind not in CODES:
        return Support.no("convolves codes of 8 bits")
    if max(t.size for t in (*workload.operands, workload.result)) > _MAX_ELEMENTS:
        return Support.no("an operand has more than 2^27 elements")
    if Plan.of(workload, default(workload, device), device).grid.input_size > _MAX_ELEMENTS:
        return Support.no("one row of the input and its padding has more than 2^27 words")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    v = workload.values
    rows, columns = workload.result.shape[2:]
    oc, words = v["oc"] // v["group"], math.ceil(v["c"] // v["group"] / WORD)
    lanes, most = cpu.vector_bits(device) // 32, cpu.threads(device)
    registers = 32 if lanes == 16 else 16
    shares = {math.ceil(oc / (r * most)) for r in (6, 8, 12)}  # panels of each thread, were all in one band
    heights = tuple(r for r in (1, 2, 4, 6, 8, 12) if r // 2 < oc and r < oc + 4)
    by_rows = v["c"] == v["group"]  # words of four rows of a filter, else of four channels
    filter_bytes = WORD * v["kw"] * (math.ceil(v["kh"] / WORD) if by_rows else words * v["kh"])
    packed_bytes = [v["group"] * math.ceil(oc / r) * r * filter_bytes for r in heights]
    parameters = [
        Parameter("micro_oc", heights),
        Parameter(
            "vectors",
            tuple(n for n in (1, 2, 3, 4, *((6, 8) if oc <= 2 else ())) if n == 1 or (n - 1) * lanes < rows * columns),
        ),
        Parameter("tile_h", band_heights(rows)),
        Parameter("tile_oc", tuple(sorted({t for t in (1, 2, 4, 8, 16, 32) if t == 1 or t // 2 < oc} | shares))),
        Parameter.categorical("inner", ("weights", "inputs")),
        Parameter("threads", tuple(sorted({1, most}))),
        Parameter.categorical("pages", pages.choices(packed_bytes)),
    ]
    (down, over), (tall, wide) = v["stride"], v["dilation"]
    band = f"(tile_h * {down} + {v['kh'] * tall}) * {over * (columns + v['kw'] * wide)}"
    l2 = cpu.l2_bytes(device)
    return Space(
        parameters,
        [
            Constraint(
                f"(micro_oc + 1) * vectors + 1 <= {registers}", "the register tile and its inputs fit in the registers"
            ),
            Constraint(f"tile_oc == 1 or tile_oc * micro_oc < {oc} + 2 * micro_oc", "a tile has channels to work on"),
            Constraint(f"tile_h == 1 or {WORD} * {words} * {band} <= {l2}", "a band of the input fits the L2 cache"),
        ],
        version=VERSION,
    )


def default(workload: Workload, device: Device) -> Schedule:
    """The point that takes the fewest instructions among those of a few register tiles; of equals, the first tile."""
    points = space(workload, device)
    found = [
        (Plan.of(workload, schedule, device).instructions, rank, schedule)
        for rank, tile in enumerate(_TILES)
        for schedule in _schedules_of(tile, points, cpu.threads(device))
    ]
    ascending = (schedule for *_, schedule in sorted(found, key=lambda point: point[:2]))
    return next(schedule for schedule in ascending if is_valid(points, schedule))


def _schedules_of(tile: tuple[int, int], points: Space, threads: int) -> Iterator[Schedule]:
    """Of a register tile, with all threads: each tile of channels and band, valid or not."""
    choices = points.choices
    if tile[0] not in choices["micro_oc"] or tile[1] not in choices["vectors"]:
        return
    for tile_oc, tile_h in itertools.product(reversed(choices["tile_oc"]), reversed(choices["tile_h"])):
        yield Schedule.of(
            micro_oc=tile[0],
            vectors=tile[1],
            tile_h=tile_h,
            tile_oc=tile_oc,
            inner="weights",
            threads=threads,
            pages="system",
        )
