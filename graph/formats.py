"""Number formats: what one element is, and how quantised weights are grouped along K.

Text form (see ``docs/workloads.md``)::

    f32                 an ungrouped format
    u4:128              4-bit codes 0..15, one f16 scale per 128 elements of K, zero point 8
    u4:128:zp           the same with a stored zero point per group
    u2:row/f32          one f32 scale per row
    tern:128, bip1:64   codes 0,1,2 mean -1,0,+1; codes 0,1 mean -1,+1
    bcq3:128            binary coding: three planes of -1, +1 with a scale each per group; bit b of a code is plane b
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import numpy as np

from fettle.graph.errors import InvalidWorkload

FLOATS = {"f32": 32, "bf16": 16, "f16": 16}
INTEGERS = {"i8": 8, "i32": 32, "i64": 64, "bool": 8}
"""``i32``, ``i64`` and ``bool`` only describe inputs and outputs of graphs; no kernel computes in them."""
UNSIGNED = {f"u{bits}": bits for bits in range(1, 9)}
SIGNS = {"tern": 2, "bip1": 1}
"""Sign formats with the bits of one stored code."""

BINARY_CODED = {f"bcq{planes}": planes for planes in range(1, 5)}
"""Sums of scaled ±1 planes (Xu et al. 2018, LUT-GEMM 2206.09557) with the bits of one stored code."""

BITS = {**FLOATS, **INTEGERS, **UNSIGNED, **SIGNS, **BINARY_CODED}
QUANTISED = frozenset({*UNSIGNED, *SIGNS, *BINARY_CODED})
PER_ROW = 0
"""The ``group`` of a format with one scale per row of the weight (text: ``row``)."""

_TEXT = re.compile(r"(?P<kind>[a-z]+[0-9]*)(?::(?P<group>[0-9]{1,6}|row)(?P<zp>:zp)?)?(?:/(?P<scale>f16|f32))?")


@attrs.frozen
class Format:
    """One number format. Quantised weights have a ``group``; plain formats have None.

    Attributes:
        kind: element kind, a key of :data:`BITS`.
        group: elements of K that share a scale; ``PER_ROW`` for one scale per row; None when not quantised.
        zero_points: a zero point is stored per group (otherwise it is the constant ``zero_point``).
        scale: format of the scales, ``f16`` or ``f32``.
    """

    kind: str
    group: int | None = None
    zero_points: bool = False
    scale: str = "f16"

    def __attrs_post_init__(self) -> None:
        if self.kind not in BITS:
            raise InvalidWorkload(f"unknown number format {self.kind!r}", hint=f"known formats: {' '.join(BITS)}")
        if self.group is None:
            if self.zero_points or self.scale != "f16":
                raise InvalidWorkload(f"format {self.kind!r} has a scale or zero points but no group")
            return
        if self.kind not in QUANTISED:
            raise InvalidWorkload(
                f"format {self.kind!r} cannot be grouped", hint="groups are for u1..u8, tern, bip1 and bcq1..4"
            )
        if self.group != PER_ROW and not 8 <= self.group <= 65536:
            raise InvalidWorkload(f"group size {self.group} is not between 8 and 65536")
        if self.zero_points and self.kind not in UNSIGNED:
            raise InvalidWorkload(f"format {self.kind!r} has no zero points")
        if self.scale not in ("f16", "f32"):
            raise InvalidWorkload(f"scales are f16 or f32, not {self.scale!r}")

    @classmethod
    def parse(cls, text: str) -> Format:
        """The format a text names.

        Raises:
            InvalidWorkload: the text names none.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidWorkload(
                f"malformed number format {text!r}", hint="examples: f32, u4:128, u2:row/f32, u4:32:zp"
            )
        group = match["group"]
        if group is None and match["scale"]:
            raise InvalidWorkload(f"format {text!r} names a scale type but no group")
        if group is not None and not group.strip("0"):
            raise InvalidWorkload(f"format {text!r}: group size 0", hint="write ':row' for one scale per row")
        return cls(
            kind=match["kind"],
            group=None if group is None else PER_ROW if group == "row" else int(group),
            zero_points=match["zp"] is not None,
            scale=match["scale"] or "f16",
        )

    def __str__(self) -> str:
        if self.group is None:
            return self.kind
        group = "row" if self.group == PER_ROW else str(self.group)
        zero_points = ":zp" if self.zero_points else ""
        return f"{self.kind}:{group}{zero_points}{'' if self.scale == 'f16' else '/' + self.scale}"

    @property
    def is_float(self) -> bool:
        return self.kind in FLOATS

    @property
    def is_quantised(self) -> bool:
        return self.group is not None

    @property
    def bits(self) -> int:
        """Bits of one stored element (a ternary code takes two)."""
        return BITS[self.kind]

    @property
    def is_binary_coded(self) -> bool:
        return self.kind in BINARY_CODED

    @property
    def scale_planes(self) -> int:
        """Scales of one group: one for each plane of a binary-coded format, else one."""
        return BINARY_CODED.get(self.kind, 1)

    @property
    def levels(self) -> int:
        """How many codes there are; codes are 0 … levels-1. Quantised kinds only."""
        return 3 if self.kind == "tern" else 1 << self.bits

    @property
    def zero_point(self) -> float:
        """The code that stands for zero when none is stored: 2^(b-1), 1 for ternary.

        One-bit bipolar codes have none: their value is ``2 * code - 1``, and so is that of a binary-coded plane.
        """
        if self.is_binary_coded or self.kind == "bip1":
            return 0.5
        return 1.0 if self.kind == "tern" else float(1 << (self.bits - 1))

    @property
    def step(self) -> float:
        """Distance of two neighbouring codes (of a plane, if binary-coded) in units of the scale: 2 for ±1, else 1."""
        return 2.0 if self.kind == "bip1" or self.is_binary_coded else 1.0

    def groups(self, k: int) -> int:
        """Number of scale groups along a K of ``k`` elements (the last may be short)."""
        if self.group is None:
            raise ValueError(f"{self} has no groups")
        return 1 if self.group == PER_ROW else -(-k // self.group)

    def bits_per_weight(self, k: int) -> float:
        """Stored bits per weight, scales and zero points included, for a row of ``k`` elements."""
        if self.group is None:
            return float(self.bits)
        extra = BITS[self.scale] * self.scale_planes + (self.bits if self.zero_points else 0)
        return self.bits + self.groups(k) * extra / k

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type that holds one element in memory (codes are bytes)."""
        if self.kind == "bf16":
            import ml_dtypes

            dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
            return dtype
        names = {"f32": "float32", "f16": "float16", "i8": "int8", "i32": "int32", "i64": "int64", "bool": "bool"}
        return np.dtype(names.get(self.kind, "uint8"))

    @property
    def scale_dtype(self) -> np.dtype[Any]:
        """NumPy type of the scales."""
        return np.dtype("float16" if self.scale == "f16" else "float32")


F32 = Format("f32")
