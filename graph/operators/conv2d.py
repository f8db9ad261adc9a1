"""Two-dimensional convolution, whole or in groups of channels, with a constant weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.epilogues import Epilogue, epilogue_operands
from fettle.graph.errors import InvalidWorkload
from fettle.graph.operators.base import (
    CONFIDENCE,
    UNIT_ROUNDOFF,
    Field,
    Flag,
    Operator,
    Reference,
    choice,
    extent,
    flag,
)
from fettle.graph.operators.codes import check_codes, default_out, finished, random_codes, zero_operand
from fettle.graph.operators.windows import Padding, Steps, padding, steps
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Conv2d(Operator):
    """``y[n,o,i,j] = Σ_{c,r,s} x[n, c0 + c, i·stride + r·dilation - top, j·stride + s·dilation - left] · W[o,c,r,s]``.

    x is ``[N, C, H, W]`` and zero outside; the weight ``[OC, C / group, KH, KW]`` is constant: packed once, untimed.
    Channels come in ``group`` groups: output channel o reads the C / group channels from c0 = ⌊o / (OC / group)⌋ ·
    (C / group) on. ``stride`` and ``dilation`` are one number, or ``rows x columns``; ``pad`` see :class:`Padding`.
    ``epilogue`` as in matmul: its rows ``b0 …`` hold one number for each output channel.
    With ``act=u8`` or ``act=i8`` the weight is of 8-bit integers too, and all is as :mod:`fettle.graph.operators.codes`
    says; outside the image x is its zero point.
    """

    name: ClassVar[str] = "conv2d"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("n", extent),
        Field("c", extent),
        Field("h", extent),
        Field("w", extent),
        Field("oc", extent),
        Field("kh", extent),
        Field("kw", extent),
        Field("stride", steps, default=lambda v: Steps((1, 1))),
        Field("pad", padding, default=lambda v: Padding((0, 0, 0, 0))),
        Field("dilation", steps, default=lambda v: Steps((1, 1))),
        Field("group", extent, default=lambda v: 1),
        Field("act", choice("f32", "u8", "i8")),
        Field("weight", choice("f32", "i8")),
        Field("epilogue", Epilogue.parse, optional=True),
        Field("zero", flag, default=lambda v: Flag(False)),
        Field("out", choice("f32", "i32", "u8", "i8"), default=default_out),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        for name in ("c", "oc"):
            if values[name] % values["group"]:
                raise InvalidWorkload(f"conv2d: {name}={values[name]} channels do not make {values['group']} groups")
        for size, taps, outputs in zip("hw", ("kh", "kw"), _outputs(values), strict=True):
            if outputs < 1:
                raise InvalidWorkload(f"conv2d: a filter of {taps}={values[taps]} does not fit {size}={values[size]}")
        check_codes("conv2d", values, _terms(values))

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        v = values
        return (
            TensorSpec("x", (v["n"], v["c"], v["h"], v["w"]), v["act"]),
            TensorSpec("weight", (v["oc"], v["c"] // v["group"], v["kh"], v["kw"]), v["weight"], constant=True),
            *zero_operand(v),
            *epilogue_operands(v["epilogue"], v["oc"], self.result(v)),
        )

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["n"], values["oc"], *_outputs(values)), values["out"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Two for each tap and output element, those of the padding included."""
        return 2 * self.result(values).size * _terms(values)

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Standard normal activations; weights scaled by 1/√(C / group · KH·KW). Codes of any value."""
        if values["act"].kind != "f32":
            return random_codes(tensor, _terms(values), rng)
        numbers = rng.standard_normal(tensor.shape, np.float32)
        if tensor.name == "weight":
            numbers /= np.float32(np.sqrt(_terms(values)))
        return numbers

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, one tap after another; tolerance of a matmul with K = C / group · KH·KW (see there), plus 2^-125.

        Sums of products of codes are exact.
        """
        x, weight, *others = (np.asarray(operand).astype(np.float64) for operand in operands)
        if values["zero"]:
            x = x - others.pop(0)
        if values["act"].kind != "f32":
            return finished(values, self._correlate(values, x, weight), [row.reshape(-1, 1, 1) for row in others])
        expected = self._correlate(values, x, weight)
        magnitude = self._correlate(values, np.abs(x), np.abs(weight))
        tolerance = CONFIDENCE * np.sqrt(_terms(values)) * UNIT_ROUNDOFF * magnitude
        epilogue: Epilogue | None = values["epilogue"]
        if epilogue is not None:
            shaped = [o.reshape(-1, 1, 1) if i < epilogue.rows else o for i, o in enumerate(others)]
            expected, tolerance = epilogue.evaluate(expected, tolerance, shaped)
        return Reference(expected, tolerance + UNIT_ROUNDOFF * np.abs(expected) + 2.0**-125)

    def _correlate(self, values: Mapping[str, Any], x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        (down, across), (rows, columns) = values["stride"], values["dilation"]
        top, left, bottom, right = values["pad"]
        n, oc, height, width = self.result(values).shape
        group = values["group"]
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        padded = padded.reshape(n, group, -1, *padded.shape[2:])
        filters = weight.reshape(group, oc // group, *weight.shape[1:])
        total = np.zeros((n, group, oc // group, height, width))
        for r, s in np.ndindex(values["kh"], values["kw"]):
            window = padded[..., r * rows : r * rows + (height - 1) * down + 1 : down, :]
            window = window[..., s * columns : s * columns + (width - 1) * across + 1 : across]
            total += np.einsum("goc,ngcij->ngoij", filters[..., r, s], window, optimize=True)
        return total.reshape(n, oc, height, width)


def _terms(values: Mapping[str, Any]) -> int:
    """Products that are summed to one output element, those of the padding included."""
    return int(values["c"] // values["group"] * values["kh"] * values["kw"])


def _outputs(values: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of the result."""
    top, left, bottom, right = values["pad"]

    def count(size: int, pads: int, taps: int, axis: int) -> int:
        reach = (taps - 1) * values["dilation"][axis] + 1
        return int((size + pads - reach) // values["stride"][axis] + 1)

    return count(values["h"], top + bottom, values["kh"], 0), count(values["w"], left + right, values["kw"], 1)
