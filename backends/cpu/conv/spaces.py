"""What the convolution family makes, its schedules, and the untuned one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.conv.geometry import Geometry, band_heights
from fettle.backends.spaces import is_valid
from fettle.graph.workload import Workload

VERSION = "conv-4"

_MAX_ELEMENTS = 2**31 - 2**16
"""Index arithmetic in the kernels is 32 bits wide."""

_LATENCY = 8
"""Multiply-adds in flight that keep two units with a latency of four cycles busy."""


_WIDE = ((8, 3), (12, 2), (6, 4))
_NARROW = ((4, 3), (6, 2), (12, 1))
_SMALL = (
    *((8, 2), (6, 2), (4, 3), (4, 2), (8, 1), (2, 4), (2, 3), (6, 1), (4, 1), (2, 2), (1, 4), (1, 3)),
    *((2, 1), (1, 8), (1, 6), (1, 2), (1, 1), (10, 1), (12, 1), (14, 1)),
)
"""Register tiles (micro_oc, vectors) of the untuned choice: for 32 registers, for 16, and for small problems."""


def supports(workload: Workload, device: Device) -> Support:
    """Convolutions whose operands, and what a task of the untuned schedule copies, 32-bit offsets reach."""
    if workload["act"].kind != "f32":
        return Support.no("convolves f32")
    if max(t.size for t in (*workload.operands, workload.result)) > _MAX_ELEMENTS // 16:
        return Support.no("an operand has more than 2^27 elements")
    geometry = Geometry.of(workload, default(workload, device), device)
    if max(geometry.input_size, geometry.output_size) > _MAX_ELEMENTS:
        return Support.no("one row of the input and its padding has more than 2^31 elements")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    v = workload.values
    rows, columns = workload.result.shape[2:]
    c, oc = v["c"] // v["group"], v["oc"] // v["group"]
    lanes, most = cpu.vector_bits(device) // 32, cpu.threads(device)
    registers = 32 if lanes == 16 else 16
    l2 = cpu.l2_bytes(device)
    shares = {math.ceil(oc / (r * most)) for r in (6, 8, 12)}  # panels of each thread, were all in one band
    heights = tuple(r for r in (1, 2, 4, 6, 8, 10, 12, 14) if r // 2 < oc and r < oc + 4)
    filter_bytes = 4 * c * v["kh"] * v["kw"]
    packed_bytes = [v["group"] * math.ceil(oc / r) * r * filter_bytes for r in heights]
    parameters = [
        Parameter("micro_oc", heights),
        Parameter(
            "vectors",
            tuple(n for n in (1, 2, 3, 4, *((6, 8) if oc <= 2 else ())) if n == 1 or (n - 1) * lanes < rows * columns),
        ),
        Parameter("tile_h", band_heights(rows)),
        Parameter("tile_oc", tuple(sorted({t for t in (1, 2, 4, 8, 16, 32) if t == 1 or t // 2 < oc} | shares))),
        Parameter("tile_c", (*(t for t in (16, 32, 64, 128, 256) if t < c), c)),
        Parameter.categorical("inner", ("weights", "inputs")),
        Parameter.categorical("input", ("planes", "in_place") if _is_pointwise(workload) else ("planes",)),
        Parameter("threads", tuple(sorted({1, most}))),
        Parameter.categorical("pages", pages.choices(packed_bytes)),
    ]
    tiles = itertools.product(*(map(int, p.choices) for p in parameters[:2]))
    least = min(_LATENCY, max(r * n for r, n in tiles if (r + 1) * n + 1 <= registers))
    (down, over), (tall, wide) = v["stride"], v["dilation"]
    across = over * (columns + v["kw"] * wide)
    band = f"(tile_h * {down} + {v['kh'] * tall}) * {across}"
    return Space(
        parameters,
        [
            Constraint(
                f"(micro_oc + 1) * vectors + 1 <= {registers}", "the register tile and its inputs fit in the registers"
            ),
            Constraint(f"micro_oc * vectors >= {least}", "a register tile hides the latency of adding"),
            Constraint(f"tile_oc == 1 or tile_oc * micro_oc < {oc} + 2 * micro_oc", "a tile has channels to work on"),
            Constraint(
                f"tile_h == 1 or tile_c <= 16 or 4 * tile_c * {band} <= {l2}", "a band of the input fits the L2 cache"
            ),
            Constraint(f"input == 'planes' or tile_c == {c}", "nothing is copied, and all channels are added at once"),
            Constraint(
                f"input == 'planes' or vectors * {lanes} <= {rows * columns}", "a register tile lies within an image"
            ),
        ],
        version=VERSION,
    )


def default(workload: Workload, device: Device) -> Schedule:
    """The point that takes the fewest instructions among a few good register tiles; of equals, the first."""
    points = space(workload, device)
    choices = points.choices
    wide = cpu.vector_bits(device) == 512
    found: list[tuple[int, int, Schedule]] = []
    for rank, (micro_oc, vectors) in enumerate((*(_WIDE if wide else _NARROW), *_SMALL)):
        if micro_oc not in choices["micro_oc"] or vectors not in choices["vectors"]:
            continue
        oc = workload["oc"] // workload["group"]
        for schedule in _schedules_of(micro_oc, vectors, points, oc, cpu.threads(device)):
            found.append((Geometry.of(workload, schedule, device).instructions, rank, schedule))
        if found and rank == 2:
            break
    return min(found, key=lambda point: point[:2])[2]


def _is_pointwise(workload: Workload) -> bool:
    """Every output element is a product of the channels at its own position."""
    v = workload.values
    return (v["kh"], v["kw"], *v["stride"], *v["pad"]) == (1, 1, 1, 1, 0, 0, 0, 0)


def _schedules_of(micro_oc: int, vectors: int, points: Space, oc: int, threads: int) -> Iterator[Schedule]:
    """Of a register tile, for each tile of channels and band: the schedule with the most input channels at a time."""
    choices = points.choices
    tiles_oc = [t for t in choices["tile_oc"] if t == 1 or int(t) * micro_oc < oc + micro_oc]
    tiles = itertools.product(reversed(tiles_oc), choices["tile_h"], reversed(choices["input"]))
    for tile_oc, tile_h, source in tiles:
        for tile_c in reversed(choices["tile_c"]):
            schedule = Schedule.of(
                micro_oc=micro_oc,
                vectors=vectors,
                tile_h=tile_h,
                tile_oc=tile_oc,
                tile_c=tile_c,
                inner="weights",
                input=source,
                threads=threads,
                pages="system",
            )
            if is_valid(points, schedule):
                yield schedule
                break
