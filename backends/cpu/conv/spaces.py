"""What the convolution family makes, and its schedules."""

from __future__ import annotations

import itertools
import math

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import pages
from fettle.backends.cpu.conv.channel_geometry import geometry_of
from fettle.backends.cpu.conv.geometry import band_heights
from fettle.backends.cpu.conv.untuned import untuned
from fettle.graph.workload import Workload

VERSION = "conv-5"

_MAX_ELEMENTS = 2**31 - 2**16
"""Index arithmetic in the kernels is 32 bits wide."""

_LATENCY = 8
"""Multiply-adds in flight that keep two units with a latency of four cycles busy."""

_SPREAD_CHANNELS = (1, 2, 4, 6, 8, 10, 12, 14)
_SPREAD_OUTPUTS = (*range(1, 15), 16, 20, 24, 28)
"""Of a register tile, what is spread over lanes that hold outputs, or channels."""


def supports(workload: Workload, device: Device) -> Support:
    """Convolutions whose operands, and what a task of the untuned schedule copies, 32-bit offsets reach."""
    if workload["act"].kind != "f32":
        return Support.no("convolves f32")
    if max(t.size for t in (*workload.operands, workload.result)) > _MAX_ELEMENTS // 16:
        return Support.no("an operand has more than 2^27 elements")
    geometry = geometry_of(workload, default(workload, device), device)
    if max(geometry.input_size, geometry.output_size) > _MAX_ELEMENTS:
        return Support.no("one row of the input and its padding has more than 2^31 elements")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Every schedule worth trying."""
    v = workload.values
    rows, columns = workload.result.shape[2:]
    c, oc = v["c"] // v["group"], v["oc"] // v["group"]
    lanes, most = cpu.vector_bits(device) // 32, cpu.threads(device)
    l2 = cpu.l2_bytes(device)
    heights = tuple(r for r in _SPREAD_CHANNELS if r // 2 < oc and r < oc + 4)
    widths = tuple(
        n * lanes for n in (1, 2, 3, 4, *((6, 8) if oc <= 2 else ())) if n == 1 or (n - 1) * lanes < rows * columns
    )
    depths = tuple(n * lanes for n in (1, 2, 3, 4) if n == 1 or (n - 1) * lanes < oc)
    outputs = tuple(n for n in _SPREAD_OUTPUTS if n <= rows * columns)
    has_channels = 2 * oc > lanes
    micro_oc = tuple(sorted({*heights, *(depths if has_channels else ())}))
    shares = {math.ceil(oc / (r * most)) for r in (6, 8, 12, *depths)}  # panels of each thread, were all in one band
    filter_bytes = 4 * c * v["kh"] * v["kw"]
    packed_bytes = [v["group"] * math.ceil(oc / r) * r * filter_bytes for r in micro_oc]
    parameters = [
        Parameter.categorical("lanes", ("pixels", "channels") if has_channels else ("pixels",)),
        Parameter("micro_oc", micro_oc),
        Parameter("micro_n", tuple(sorted({*widths, *(outputs if has_channels else ())}))),
        Parameter("tile_h", band_heights(rows)),
        Parameter("tile_oc", tuple(sorted({t for t in (1, 2, 4, 8, 16, 32) if t == 1 or t // 2 < oc} | shares))),
        Parameter("tile_c", (*(t for t in (16, 32, 64, 128, 256) if t < c), c)),
        Parameter.categorical("inner", ("weights", "inputs")),
        Parameter.categorical("input", ("planes", "in_place") if _is_pointwise(workload) else ("planes",)),
        Parameter("threads", tuple(sorted({1, most}))),
        Parameter.categorical("pages", pages.choices(packed_bytes)),
    ]
    (down, over), (tall, wide) = v["stride"], v["dilation"]
    across = over * (columns + v["kw"] * wide)
    band = f"(tile_h * {down} + {v['kh'] * tall}) * {across}"
    return Space(
        parameters,
        [
            *_tile_constraints("pixels", lanes, micro_oc=heights, micro_n=widths),
            *_tile_constraints("channels", lanes, micro_n=outputs, micro_oc=depths),
            Constraint(f"tile_oc == 1 or tile_oc * micro_oc < {oc} + 2 * micro_oc", "a tile has channels to work on"),
            Constraint(
                f"tile_h == 1 or tile_c <= 16 or 4 * tile_c * {band} <= {l2}", "a band of the input fits the L2 cache"
            ),
            Constraint(
                f"(input == 'planes' and lanes == 'pixels') or tile_c == {c}",
                "where nothing is copied, and where lanes hold channels, all channels are added at once",
            ),
            Constraint(
                f"input == 'planes' or lanes == 'channels' or micro_n <= {rows * columns}",
                "a register tile lies within an image",
            ),
            Constraint(
                f"lanes == 'pixels' or micro_n <= tile_h * {columns}"
                f" and (input == 'in_place' or micro_n <= {columns} or micro_n % {columns} == 0)",
                "a register tile lies in a row, or is rows of the band",
            ),
            Constraint(
                f"lanes == 'pixels' or tile_h == 1"
                f" or 4 * (1 + (inner == 'weights') * (tile_oc - 1)) * micro_oc * tile_h * {columns} <= {l2}",
                "sums of channels wait in the L2 cache",
            ),
        ],
        version=VERSION,
    )


def _tile_constraints(what: str, lanes: int, **sides: tuple[int, ...]) -> list[Constraint]:
    """Of register tiles where lanes hold ``what``; its sides are choices of what is spread, and of whole vectors."""
    unless, registers = f"lanes != '{what}' or ", 32 if lanes == 16 else 16
    (one, spread), (many, along) = sides.items()
    fitting = [r * n // lanes for r, n in itertools.product(spread, along) if (r + 1) * n + lanes <= registers * lanes]
    least = min(_LATENCY, max(fitting))
    return [
        Constraint(f"{unless}{one} in {spread} and {many} in {along}", f"{many} is whole vectors"),
        Constraint(
            f"{unless}({one} + 1) * {many} + {lanes} <= {registers * lanes}",
            "the register tile and its inputs fit in the registers",
        ),
        Constraint(f"{unless}{one} * {many} >= {least * lanes}", "a register tile hides the latency of adding"),
    ]


def default(workload: Workload, device: Device) -> Schedule:
    """The untuned choice."""
    return untuned(workload, device, space(workload, device))


def _is_pointwise(workload: Workload) -> bool:
    """Every output element is a product of the channels at its own position."""
    v = workload.values
    return (v["kh"], v["kw"], *v["stride"], *v["pad"]) == (1, 1, 1, 1, 0, 0, 0, 0)
