"""The untuned convolution: the point of the space that takes the fewest instructions among a few good ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from fettle.backends.api import Device, Schedule, Space, Value
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.conv.channel_geometry import geometry_of
from fettle.backends.cpu.conv.geometry import unrolled_columns
from fettle.backends.spaces import is_valid
from fettle.graph.workload import Workload

_WIDE = ((8, 3), (12, 2), (6, 4))
_NARROW = ((4, 3), (6, 2), (12, 1))
_SMALL = (
    *((8, 2), (6, 2), (4, 3), (4, 2), (8, 1), (2, 4), (2, 3), (6, 1), (4, 1), (2, 2), (1, 4), (1, 3)),
    *((2, 1), (1, 8), (1, 6), (1, 2), (1, 1), (10, 1), (12, 1), (14, 1)),
)
"""Register tiles (output channels, vectors of outputs) whose lanes hold outputs, the better ones first: for 32
registers, for 16, and for small problems."""

_PANELS = (2, 3, 1, 4)
"""Vectors of channels in a register tile whose lanes hold channels, the better ones first."""

_LEAST_SUMS = 10
"""Vectors of sums in such a tile, where there are so many: the eight that hide the latency of adding, and two more.

There are at most three quarters as many as registers, and room is left for the weights of a row of taps: with more,
LLVM keeps some of them in memory."""


def untuned(workload: Workload, device: Device, space: Space) -> Schedule:
    """The point of the space that takes the fewest instructions; of equals, the first."""
    return _fewest(
        [*_pixel_tiles(workload, device, space), *_channel_tiles(workload, device, space)], workload, device, space
    )


def _fewest(tiles: Sequence[dict[str, Value]], workload: Workload, device: Device, space: Space) -> Schedule:
    """Of schedules with these register tiles. To count what one takes is quicker than to ask whether it is valid."""
    alike = [s for tile in tiles for s in _schedules_of(tile, space, workload, cpu.threads(device))]
    ordered = sorted(alike, key=lambda schedules: geometry_of(workload, schedules[0], device).instructions)
    return next(s for s in itertools.chain.from_iterable(ordered) if is_valid(space, s))


def _pixel_tiles(workload: Workload, device: Device, space: Space) -> list[dict[str, Value]]:
    """Good register tiles whose lanes hold outputs; the small ones only where no good one is a choice."""
    lanes, choices = cpu.vector_bits(device) // 32, space.choices

    def offered(tiles: Sequence[tuple[int, int]]) -> list[dict[str, Value]]:
        return [
            {"lanes": "pixels", "micro_oc": micro_oc, "micro_n": vectors * lanes}
            for micro_oc, vectors in tiles
            if micro_oc in choices["micro_oc"] and vectors * lanes in choices["micro_n"]
        ]

    return offered(_WIDE if lanes == 16 else _NARROW) or offered(_SMALL)


def _channel_tiles(workload: Workload, device: Device, space: Space) -> list[dict[str, Value]]:
    """Of register tiles whose lanes hold channels, for each width of a panel the one that computes the fewest outputs
    twice; of equals, the one with the most outputs, which reads weights least often."""
    lanes, choices = cpu.vector_bits(device) // 32, space.choices
    if "channels" not in choices["lanes"]:
        return []
    rows, columns = workload.result.shape[2:]
    registers, in_place = 32 if lanes == 16 else 16, "in_place" in choices["input"]
    taps = unrolled_columns(workload["kw"])
    tiles: list[dict[str, Value]] = []
    for vectors in _PANELS:
        least = min(_LEAST_SUMS, rows * columns * vectors)
        most = min(3 * registers // 4, registers - 1 - taps * vectors)
        fitting = [n for n in choices["micro_n"] if least <= n * vectors <= most and n <= rows * columns]
        if fitting and vectors * lanes in choices["micro_oc"]:
            best = min(fitting, key=lambda n: (_computed(n, rows, columns, in_place), -n))
            tiles.append({"lanes": "channels", "micro_oc": vectors * lanes, "micro_n": best})
    return tiles


def _computed(micro_n: int, rows: int, columns: int, in_place: bool) -> float:
    """Outputs that register tiles of ``micro_n`` compute in an image; infinitely many if they are no whole rows."""
    if in_place:
        return math.ceil(rows * columns / micro_n) * micro_n
    if micro_n <= columns:
        return rows * math.ceil(columns / micro_n) * micro_n
    return math.inf if micro_n % columns else math.ceil(rows * columns / micro_n) * micro_n


def _schedules_of(tile: dict[str, Value], space: Space, workload: Workload, threads: int) -> Iterator[list[Schedule]]:
    """Of a register tile, for each tile of channels and band: schedules with ever fewer input channels at a time, which
    take equally many instructions.

    Where lanes hold channels, a panel of weights meets the whole band before the next one does, and the tallest bands
    come first: threads share the channels of an image rather than its rows.
    """
    choices, micro_oc = space.choices, int(tile["micro_oc"])
    oc = workload["oc"] // workload["group"]
    tiles_oc = [t for t in reversed(choices["tile_oc"]) if t == 1 or t * micro_oc < oc + micro_oc]
    has_channels = tile["lanes"] == "channels"
    if has_channels:
        tasks = [(tile_oc, tile_h) for tile_h in reversed(choices["tile_h"]) for tile_oc in tiles_oc]
    else:
        tasks = list(itertools.product(tiles_oc, choices["tile_h"]))
    for (tile_oc, tile_h), source in itertools.product(tasks, reversed(choices["input"])):
        blocks = choices["tile_c"][-1:] if has_channels or source == "in_place" else reversed(choices["tile_c"])
        yield [
            Schedule.of(
                **tile,
                tile_h=tile_h,
                tile_oc=tile_oc,
                tile_c=tile_c,
                inner="inputs" if has_channels else "weights",
                input=source,
                threads=threads,
                pages="system",
            )
            for tile_c in blocks
        ]
