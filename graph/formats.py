"""Number formats: what one element is, and how quantised weights are grouped along K.

Text form (see ``docs/workloads.md``)::

    f32                 an ungrouped format; f8e4m3 and f8e5m2 may be one, other minifloats need a group
    u4:128              4-bit codes 0..15, one f16 scale per 128 elements of K, zero point 8
    u4:128:zp           the same with a stored zero point per group
    u2:row/f32          one f32 scale per row
    tern:128, bip1:64   codes 0,1,2 mean -1,0,+1; codes 0,1 mean -1,+1
    f6e3m2:128          minifloats: sign, 3 bits of exponent, 2 of mantissa; any split up to 8 bits
    mxfp4, mxfp6, mxfp8 OCP MX: f4e2m1:32/e8m0 and so on, a power of two per block of 32
    mxint8              i8q6:32/e8m0: two's complement of 64ths, -2 … 1 63/64, a power of two per block of 32
    nvfp4               f4e2m1:16/e4m3: an FP8 scale per block of 16, and one f32 for the tensor
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

FIXED_POINT = {"i8q6": 6}
"""Two's complement integers with their bits of fraction: 8 bits of 64ths are the elements of MXINT8 (OCP MX 1.0)."""

MINIFLOATS = {
    f"f{1 + exponent + mantissa}e{exponent}m{mantissa}": (exponent, mantissa)
    for exponent in range(1, 8)
    for mantissa in range(7)
    if 3 <= 1 + exponent + mantissa <= 8
}
"""Sign, exponent, mantissa: (bits of exponent, bits of mantissa). The bias is 2^(exponent-1) - 1, subnormals exist.

Every code is a finite number but those that OCP's 8-bit formats (OFP8 1.0) set aside: see :func:`minifloat_values`."""

FP8 = {"f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
"""Minifloats that may also be plain elements, without scales, and ml_dtypes' names for them."""

SCALES = {"f16": 16, "f32": 32, "e8m0": 8, "e4m3": 8}
"""Formats of scales: floats; powers of two 2^(code-127) (OCP MX 1.0); f8e4m3 times one f32 for the tensor (NVFP4)."""

ALIASES = {
    "mxfp4": "f4e2m1:32/e8m0",
    "mxfp6": "f6e3m2:32/e8m0",
    "mxfp8": "f8e4m3:32/e8m0",
    "mxint8": "i8q6:32/e8m0",
    "nvfp4": "f4e2m1:16/e4m3",
}
_ALIAS_OF = {text: alias for alias, text in ALIASES.items()}

BITS = {
    **FLOATS,
    **INTEGERS,
    **UNSIGNED,
    **SIGNS,
    **BINARY_CODED,
    **{kind: int(kind[1]) for kind in FIXED_POINT},
    **{kind: 1 + exponent + mantissa for kind, (exponent, mantissa) in MINIFLOATS.items()},
}
QUANTISED = frozenset({*UNSIGNED, *SIGNS, *BINARY_CODED, *FIXED_POINT, *MINIFLOATS})
PER_ROW = 0
"""The ``group`` of a format with one scale per row of the weight (text: ``row``)."""

_TEXT = re.compile(
    r"(?P<kind>[a-z]+[0-9]*(?:e[0-9]m[0-9]|q[0-9])?)(?::(?P<group>[0-9]{1,6}|row)(?P<zp>:zp)?)?(?:/(?P<scale>[a-z0-9]+))?"
)


@attrs.frozen
class Format:
    """One number format. Quantised weights have a ``group``; plain formats have None.

    Attributes:
        kind: element kind, a key of :data:`BITS`.
        group: elements of K that share a scale; ``PER_ROW`` for one scale per row; None when not quantised.
        zero_points: a zero point is stored per group (otherwise it is the constant ``zero_point``).
        scale: format of the scales, a key of :data:`SCALES`.
    """

    kind: str
    group: int | None = None
    zero_points: bool = False
    scale: str = "f16"

    def __attrs_post_init__(self) -> None:
        if self.kind not in BITS:
            signed = re.fullmatch(r"i(?:nt)?([1-8])", self.kind)
            hint = f"signed integers of {signed[1]} bits are u{signed[1]} without :zp" if signed else ""
            raise InvalidWorkload(
                f"unknown number format {self.kind!r}", hint=hint or f"known formats: {' '.join(BITS)}"
            )
        if self.group is None:
            if self.zero_points or self.scale != "f16":
                raise InvalidWorkload(f"format {self.kind!r} has a scale or zero points but no group")
            return
        if self.kind not in QUANTISED:
            raise InvalidWorkload(
                f"format {self.kind!r} cannot be grouped",
                hint="groups are for u1..u8, tern, bip1, bcq1..4, i8q6 and minifloats",
            )
        if self.group != PER_ROW and not 8 <= self.group <= 65536:
            raise InvalidWorkload(f"group size {self.group} is not between 8 and 65536")
        if self.zero_points and self.kind not in UNSIGNED:
            raise InvalidWorkload(f"format {self.kind!r} has no zero points")
        if self.scale not in SCALES:
            raise InvalidWorkload(f"scales are {' '.join(SCALES)}, not {self.scale!r}")
        if self.kind in FIXED_POINT and self.scale != "e8m0":
            raise InvalidWorkload(f"scales of {self.kind!r} are e8m0", hint="write mxint8")
        if self.scale not in FLOATS and not self.encodes_numbers:
            raise InvalidWorkload(f"scales of {self.kind!r} are f16 or f32", hint=f"{self.scale} is for minifloats")

    @classmethod
    def parse(cls, text: str) -> Format:
        """The format a text names.

        Raises:
            InvalidWorkload: the text names none.
        """
        match = _TEXT.fullmatch(ALIASES.get(text, text))
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
            group=_group(group),
            zero_points=match["zp"] is not None,
            scale=match["scale"] or "f16",
        )

    def __str__(self) -> str:
        if self.group is None:
            return self.kind
        group = "row" if self.group == PER_ROW else str(self.group)
        zero_points = ":zp" if self.zero_points else ""
        text = f"{self.kind}:{group}{zero_points}{'' if self.scale == 'f16' else '/' + self.scale}"
        return _ALIAS_OF.get(text, text)

    @property
    def is_float(self) -> bool:
        return self.kind in FLOATS

    @property
    def is_fp8(self) -> bool:
        """Whether elements are plain 8-bit floats, without scales."""
        return self.kind in FP8 and not self.is_quantised

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
    def is_minifloat(self) -> bool:
        return self.kind in MINIFLOATS

    @property
    def is_fixed_point(self) -> bool:
        return self.kind in FIXED_POINT

    @property
    def encodes_numbers(self) -> bool:
        """Whether codes are numbers by themselves, see :func:`fettle.graph.codevalues.code_values`, not integers less
        a zero point."""
        return self.is_minifloat or self.is_fixed_point

    @property
    def has_tensor_scale(self) -> bool:
        """Whether one f32 scales the whole tensor on top of the groups' scales."""
        return self.scale == "e4m3"

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
        Nor have formats that encode numbers, see :func:`fettle.graph.codevalues.code_values`.
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
        extra = SCALES[self.scale] * self.scale_planes + (self.bits if self.zero_points else 0)
        return self.bits + self.groups(k) * extra / k

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy type that holds one element in memory (codes are bytes)."""
        if self.kind == "bf16" or self.is_fp8:
            import ml_dtypes

            dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, FP8.get(self.kind, "bfloat16")))
            return dtype
        names = {"f32": "float32", "f16": "float16", "i8": "int8", "i32": "int32", "i64": "int64", "bool": "bool"}
        return np.dtype(names.get(self.kind, "uint8"))

    @property
    def scale_dtype(self) -> np.dtype[Any]:
        """NumPy type of the scales."""
        if self.scale in FLOATS:
            return np.dtype("float16" if self.scale == "f16" else "float32")
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.float8_e8m0fnu if self.scale == "e8m0" else ml_dtypes.float8_e4m3fn)
        return dtype


F32 = Format("f32")


def _group(text: str | None) -> int | None:
    if text is None:
        return None
    return PER_ROW if text == "row" else int(text)
