"""What the kernel of low-bit products is told when it is compiled: attributes of ``C`` in its templates."""

from __future__ import annotations

import attrs

from fettle.backends.api import Schedule, Value
from fettle.backends.triton.lowbit import spread
from fettle.backends.triton.lowbit.layouts import WeightLayout
from fettle.backends.triton.lowbit.packing import SIGN, stack
from fettle.backends.triton.lowbit.product import Product
from fettle.graph.formats import MINIFLOATS

_METHODS = {"convert": 0, "magic": 1, "ptx": 2, "raw": 3}
_INTEGER, _FLOAT, _BINARY_CODED = range(3)
_SCALES = {"f16": 0, "f32": 0, "e8m0": 1, "e4m3": 2}
_SCALE_OF_64THS = 3
_MOST_FOLDED = 3
"""Bits of a minifloat's exponent up to which its product with f8e4m3 is exact in f16 and bf16."""


@attrs.frozen
class Codes:
    """What the codes of a weight are, and how they lie (:mod:`fettle.backends.triton.lowbit.layouts`).

    Attributes:
        bits, high_bits: of a code, and of its part in the second plane, if there is one.
        values: codes that share their containers; they are ``block_k / values`` apart along K.
        words, container: containers that they fill, and bits of one.
        k_contiguous: whether neighbours in memory are neighbours in K, else in N.
        kind: of number, as ``templates/codes.py`` has it.
        exponent, mantissa: bits of a minifloat's.
        step, offset: an integer's number is ``step · code - offset``.
        stack: planes of one bit that lie one behind another along K.
    """

    bits: int
    high_bits: int
    values: int
    words: int
    container: int
    k_contiguous: bool
    kind: int
    exponent: int
    mantissa: int
    step: int
    offset: int
    stack: int


@attrs.frozen
class Scales:
    """How codes are scaled.

    Attributes:
        scale: how scales are stored, as ``templates/scales.py`` has it.
        group: elements of K that share one.
        zeros: whether groups have zero points.
        late: whether they are applied to sums of products, else to weights.
    """

    scale: int
    group: int
    zeros: bool
    late: bool


@attrs.frozen
class Decoding:
    """How codes become operands.

    Attributes:
        how: the method, as ``templates/codes.py`` has it.
        period, factor, assembly, shape: of a method with inline PTX (:mod:`fettle.backends.triton.lowbit.spread`):
            distance of places at which codes are equal; what its numbers are short of; its text and constraints.
    """

    how: int
    period: int
    factor: float
    assembly: str
    shape: str


@attrs.frozen
class Tiling:
    """How a product is cut; as parameters of the schedule, if they have the same name.

    Attributes:
        n, k: the weight's sides.
        whole_rows: whether tiles have no rows beyond the product's.
        parts: of K, each summed by a program of its own.
        last: whether the program that is last of a tile's adds its parts.
        share: blocks of K of a stream's program; 0 for tiles.
        awaits, releases: whether it begins while the launch before it ends, and lets the one after it do so.
    """

    n: int
    k: int
    swap: bool
    block_m: int
    block_n: int
    block_k: int
    whole_rows: bool
    stages: int
    settle: bool
    parts: int
    last: bool
    share: int
    awaits: bool
    releases: bool


def constants(p: Product, schedule: Schedule, layout: WeightLayout, share: int) -> tuple[tuple[str, Value], ...]:
    """All of them, by name."""
    parts = (_codes(p, schedule, layout), _scales(p, schedule), _decoding(p, schedule), _tiling(p, schedule, share))
    return tuple((name, value) for part in parts for name, value in attrs.asdict(part).items())


def is_whole(schedule: Schedule) -> bool:
    """Whether a program has all of a tile's sum."""
    return bool(schedule["order"] == "tiles" and schedule["split"] == 1)


def rounds_activations(schedule: Schedule) -> bool:
    """Whether a launch before the product's rounds activations to bytes."""
    return bool(schedule["algorithm"] != "float")


def adds_parts(schedule: Schedule) -> bool:
    """Whether a launch after the product's adds its parts."""
    return not is_whole(schedule) and schedule["reduce"] == "launch"


def _codes(p: Product, schedule: Schedule, layout: WeightLayout) -> Codes:
    low, *high = layout.planes
    exponent, mantissa = MINIFLOATS.get(p.weight.kind, (0, 0))
    step, offset = _step_and_offset(p)
    return Codes(
        bits=low.bits,
        high_bits=high[0].bits if high else 0,
        values=low.values,
        words=low.words,
        container=low.container,
        k_contiguous=schedule["contiguous"] == "k",
        kind=_FLOAT if p.weight.is_minifloat else _BINARY_CODED if p.weight.is_binary_coded else _INTEGER,
        exponent=exponent,
        mantissa=mantissa,
        step=step,
        offset=offset,
        stack=stack(p, schedule),
    )


def _scales(p: Product, schedule: Schedule) -> Scales:
    return Scales(
        scale=_SCALE_OF_64THS if p.weight.is_fixed_point else _SCALES[p.weight.scale],
        group=p.group,
        zeros=p.weight.zero_points,
        late=schedule["scale"] == "late",
    )


def _decoding(p: Product, schedule: Schedule) -> Decoding:
    assembly, factor = _assembly(p, schedule["method"], schedule["scale"] == "late")
    return Decoding(
        how=_METHODS[schedule["method"]],
        period=spread.period(p.word_bits, p.act),
        factor=factor,
        assembly=assembly.text,
        shape=assembly.constraints,
    )


def _tiling(p: Product, schedule: Schedule, share: int) -> Tiling:
    return Tiling(
        n=p.n,
        k=p.k,
        swap=schedule["swap"],
        block_m=schedule["block_m"],
        block_n=schedule["block_n"],
        block_k=schedule["block_k"],
        whole_rows=p.m % schedule["block_m"] == 0,
        stages=schedule["stages"],
        settle=schedule["settle"],
        parts=schedule["split"],
        last=schedule["reduce"] == "last",
        share=share,
        awaits=schedule["overlap"] and rounds_activations(schedule),
        releases=schedule["overlap"] and adds_parts(schedule),
    )


def _step_and_offset(p: Product) -> tuple[int, int]:
    """The number of an integer's code, ``step · code - offset``; of other formats, none.

    Fixed point, packed with its sign bit flipped, counts from the least up; what its unit is, scales say.
    """
    if p.weight.is_minifloat:
        return 1, 0
    if p.weight.is_fixed_point:
        return 1, SIGN
    return int(p.weight.step), int(p.weight.step * p.weight.zero_point)


def _assembly(p: Product, method: str, late: bool) -> tuple[spread.Assembly, float]:
    """How a method takes codes out of words of 16 bits, and what its values are short of; nothing for other methods."""
    if method == "raw":
        return spread.raw(p.word_bits, p.act), 1.0
    if method != "ptx":
        return spread.Assembly("", ""), 1.0
    if not p.weight.is_minifloat:
        step_and_offset = (1, 0) if p.weight.zero_points else _step_and_offset(p)
        return spread.integers(p.word_bits, p.act, *step_and_offset), 1.0
    exponent, mantissa = MINIFLOATS[p.weight.kind]
    if p.weight.scale == "e4m3" and not late and exponent <= _MOST_FOLDED:
        return spread.floats(exponent, mantissa, p.act, scaled=False), spread.folded_factor(exponent, p.act)
    scaled = p.act != "f16" or not late  # f32, in which late scales are, takes the factor
    factor = 1.0 if scaled else spread.bias_factor(exponent, p.act)
    return spread.floats(exponent, mantissa, p.act, scaled), factor
