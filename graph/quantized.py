"""Quantised weight matrices in their plain, unpacked form, and the packings other tools use."""

from __future__ import annotations

from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.codevalues import code_values
from fettle.graph.errors import InvalidArgument
from fettle.graph.formats import PER_ROW, Format

Number = TypeVar("Number", bound=np.number)


@attrs.frozen(eq=False)
class QuantizedWeight:
    """A weight matrix ``[N, K]``: ``value = scale · step · (code - zero_point)``, per group along K.

    Binary-coded formats have a scale for each bit b of a code: ``value = Σ_b scale_b · (2·bit_b - 1)``.
    Formats that encode numbers: ``value = tensor_scale · scale · number(code)``, see
    :func:`fettle.graph.codevalues.code_values`.

    Attributes:
        format: the quantised format.
        codes: ``[N, K]`` uint8, one code a byte, 0 … levels-1.
        scales: ``[N, groups]`` of the format's ``scale_dtype``; ``[N, groups, planes]`` if binary-coded.
        zero_points: ``[N, groups]`` uint8 if the format stores them, else None.
        tensor_scale: ``[1]`` float32 if the format has one, else None.
    """

    format: Format
    codes: NDArray[np.uint8]
    scales: NDArray[np.floating]
    zero_points: NDArray[np.uint8] | None = None
    tensor_scale: NDArray[np.float32] | None = None

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.format, Format):  # Python callers pass anything
            raise InvalidArgument(
                f"a format is a Format, not {type(self.format).__name__}", hint="a workload has it: workload['weight']"
            )
        if not self.format.is_quantised:
            raise InvalidArgument(f"{self.format} is not a quantised format")
        if self.codes.ndim != 2 or self.codes.dtype != np.uint8:
            raise InvalidArgument(f"codes must be a uint8 matrix [N, K], not {self.codes.dtype} {self.codes.shape}")
        if self.codes.size and (largest := int(self.codes.max())) >= self.format.levels:
            raise InvalidArgument(f"codes of {self.format} are 0 … {self.format.levels - 1}, but there is a {largest}")
        expected: tuple[int, ...] = (self.codes.shape[0], self.format.groups(self.codes.shape[1]))
        if self.format.is_binary_coded:
            expected = (*expected, self.format.scale_planes)
        if self.scales.shape != expected or self.scales.dtype != self.format.scale_dtype:
            raise InvalidArgument(
                f"scales must be {self.format.scale_dtype} {expected}, not {self.scales.dtype} {self.scales.shape}"
            )
        if (self.zero_points is not None) != self.format.zero_points:
            raise InvalidArgument(f"format {self.format} and zero points given: {self.zero_points is not None}")
        if self.zero_points is not None and (self.zero_points.shape != expected or self.zero_points.dtype != np.uint8):
            raise InvalidArgument(f"zero points must be uint8 {expected}")
        if (self.tensor_scale is not None) != self.format.has_tensor_scale:
            raise InvalidArgument(f"format {self.format} and a tensor's scale given: {self.tensor_scale is not None}")
        if self.tensor_scale is not None and (self.tensor_scale.shape != (1,) or self.tensor_scale.dtype != np.float32):
            raise InvalidArgument("a tensor's scale must be float32 (1,)")

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def group(self) -> int:
        """Elements of K per scale; K itself for one scale per row."""
        return self.codes.shape[1] if self.format.group == PER_ROW else int(self.format.group or 0)

    def expand(self, per_group: NDArray[Number], rows: slice = slice(None)) -> NDArray[Number]:
        """Repeat a ``[N, groups, …]`` array along K: ``[N, K, …]``."""
        return np.repeat(per_group[rows], self.group, axis=1)[:, : self.codes.shape[1]]

    def centred(self, rows: slice = slice(None), dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
        """``step · (code - zero_point)`` of some rows, or the number a code is; unscaled; ``[rows, K, planes]`` if
        binary-coded."""
        if self.format.is_binary_coded:
            shifts = np.arange(self.format.bits, dtype=np.uint8)
            bits = (self.codes[rows][..., None] >> shifts) & np.uint8(1)
            return np.asarray(2 * bits.astype(dtype) - 1)
        if self.format.encodes_numbers:
            return np.asarray(code_values(self.format.kind)[self.codes[rows]].astype(dtype))
        codes = self.codes[rows].astype(dtype)
        if self.zero_points is None:
            codes -= dtype(self.format.zero_point)
        else:
            codes -= self.expand(self.zero_points, rows).astype(dtype)
        codes *= dtype(self.format.step)
        return codes

    def dequantise(self, rows: slice = slice(None), dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
        """The weights of some rows, ``[rows, K]``."""
        scaled = self.centred(rows, dtype) * self.expand(self.scales, rows).astype(dtype)
        if self.tensor_scale is not None:
            scaled *= dtype(self.tensor_scale[0])
        return np.asarray(scaled.sum(axis=2)) if self.format.is_binary_coded else scaled

    def cancelling(self, rows: slice = slice(None)) -> NDArray[np.float64]:
        """What may cancel in a weight, ``[rows, groups]``: |scale·code| + |scale·zero_point| exceed their difference
        by 2·|scale·zero_point| at most, and planes their sum by Σ_b |scale_b|. Kernels may sum such parts apart. Where
        codes are numbers there are none."""
        scales = np.abs(self.scales[rows].astype(np.float64))
        if self.format.is_binary_coded:
            return np.asarray(scales.sum(axis=2))
        if self.format.encodes_numbers:
            return np.zeros(scales.shape)
        zero_points = self.format.zero_point if self.zero_points is None else self.zero_points[rows].astype(np.float64)
        return np.asarray(2.0 * self.format.step * zero_points * scales)

    @classmethod
    def from_matmul_nbits(
        cls,
        packed: NDArray[np.uint8],
        scales: NDArray[np.floating],
        zero_points: NDArray[np.uint8] | None,
        *,
        bits: int,
        block: int,
        k: int,
    ) -> QuantizedWeight:
        """From com.microsoft.MatMulNBits operands.

        Args:
            packed: ``[N, blocks, block·bits/8]``; the low bits of a byte are the lower k.
            scales: ``[N · blocks]`` or ``[N, blocks]``.
            zero_points: ``[N · ceil(blocks·bits/8)]`` packed like the codes, or None for 2^(bits-1).
            bits, block, k: the node's attributes.

        Raises:
            InvalidArgument: shapes and attributes disagree.
        """
        blocks = -(-k // block)
        if packed.ndim != 3 or packed.shape[1:] != (blocks, block * bits // 8):
            raise InvalidArgument(
                f"MatMulNBits B has shape {packed.shape}, expected (N, {blocks}, {block * bits // 8})"
            )
        n = packed.shape[0]
        if scales.size != n * blocks:
            raise InvalidArgument(f"MatMulNBits scales have shape {scales.shape}, expected {n * blocks} elements")
        if zero_points is not None and zero_points.size != n * -(-blocks * bits // 8):
            raise InvalidArgument(f"MatMulNBits zero points have shape {zero_points.shape}, which does not fit B")
        scale = "f16" if scales.dtype == np.float16 else "f32"
        codes = np.ascontiguousarray(unpack_bits(packed.reshape(n, -1), bits)[:, :k])
        stored = None
        if zero_points is not None:
            stored = np.ascontiguousarray(unpack_bits(zero_points.reshape(n, -1), bits)[:, :blocks])
        return cls(
            Format(f"u{bits}", block, stored is not None, scale),
            codes,
            np.ascontiguousarray(scales.reshape(n, blocks)),
            stored,
        )

    def to_matmul_nbits(self) -> tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.uint8] | None]:
        """(B, scales, zero_points) as com.microsoft.MatMulNBits wants them; the inverse of the above."""
        n, k = self.shape
        bits, group = self.format.bits, self.group
        blocks = self.format.groups(k)
        padded = np.zeros((n, blocks * group), np.uint8)
        padded[:, :k] = self.codes
        if self.zero_points is None:
            padded[:, k:] = int(self.format.zero_point)
        packed = pack_bits(padded, bits).reshape(n, blocks, group * bits // 8)
        stored = None if self.zero_points is None else pack_bits(self.zero_points, bits)
        return packed, self.scales, stored


def pack_bits(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack ``[rows, n]`` codes of ``bits`` bits into ``[rows, ceil(n·bits/8)]`` bytes, low bits first."""
    planes = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(codes.shape[0], -1), axis=1, bitorder="little")


def unpack_bits(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Inverse of :func:`pack_bits`: ``[rows, floor(8·bytes/bits)]`` codes, padding included."""
    rows = packed.shape[0]
    if 8 % bits == 0:
        fields = (packed[:, :, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & np.uint8((1 << bits) - 1)
        return np.ascontiguousarray(fields.reshape(rows, -1))
    stream = np.unpackbits(packed, axis=1, bitorder="little")
    count = stream.shape[1] // bits
    planes = stream[:, : count * bits].reshape(rows, count, bits)
    weights = (1 << np.arange(bits)).astype(np.uint8)
    return np.asarray((planes * weights).sum(axis=2, dtype=np.uint8))


Operand = np.ndarray | QuantizedWeight
"""What a kernel is called with: an array, or a quantised weight in plain form."""
