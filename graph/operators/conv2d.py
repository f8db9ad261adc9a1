"""Two-dimensional convolution with a constant weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.epilogues import Epilogue, epilogue_operands
from fettle.graph.errors import InvalidWorkload
from fettle.graph.operators.base import CONFIDENCE, UNIT_ROUNDOFF, Field, Operator, Reference, choice, extent
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


def _padding(text: str) -> int:
    return 0 if text == "0" else extent(text)


class Conv2d(Operator):
    """``y[n,o,i,j] = Σ_{c,r,s} x[n, c, i·stride + r·dilation - pad, j·stride + s·dilation - pad] · W[o,c,r,s]``.

    x is ``[N, C, H, W]`` and zero outside; the weight ``[OC, C, KH, KW]`` is constant: packed once, untimed.
    ``epilogue`` as in matmul: its rows ``b0 …`` hold one number for each output channel.
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
        Field("stride", extent, default=lambda v: 1),
        Field("pad", _padding, default=lambda v: 0),
        Field("dilation", extent, default=lambda v: 1),
        Field("act", choice("f32")),
        Field("weight", choice("f32")),
        Field("epilogue", Epilogue.parse, optional=True),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        for size, taps in (("h", "kh"), ("w", "kw")):
            if _outputs(values, size, taps) < 1:
                raise InvalidWorkload(f"conv2d: a filter of {taps}={values[taps]} does not fit {size}={values[size]}")

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        v = values
        return (
            TensorSpec("x", (v["n"], v["c"], v["h"], v["w"]), v["act"]),
            TensorSpec("weight", (v["oc"], v["c"], v["kh"], v["kw"]), v["weight"], constant=True),
            *epilogue_operands(v["epilogue"], v["oc"], self.result(v)),
        )

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        rows, columns = _outputs(values, "h", "kh"), _outputs(values, "w", "kw")
        return TensorSpec("y", (values["n"], values["oc"], rows, columns), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Two for each tap and output element, those of the padding included."""
        return int(2 * self.result(values).size * values["c"] * values["kh"] * values["kw"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Standard normal activations; weights scaled by 1/√(C·KH·KW)."""
        numbers = rng.standard_normal(tensor.shape, np.float32)
        if tensor.name == "weight":
            numbers /= np.float32(np.sqrt(values["c"] * values["kh"] * values["kw"]))
        return numbers

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, one tap after another; tolerance of a matmul with K = C·KH·KW (see there), plus 2^-125."""
        x, weight, *others = (np.asarray(operand).astype(np.float64) for operand in operands)
        k = values["c"] * values["kh"] * values["kw"]
        expected = self._correlate(values, x, weight)
        magnitude = self._correlate(values, np.abs(x), np.abs(weight))
        tolerance = CONFIDENCE * np.sqrt(k) * UNIT_ROUNDOFF * magnitude
        epilogue: Epilogue | None = values["epilogue"]
        if epilogue is not None:
            shaped = [o.reshape(-1, 1, 1) if i < epilogue.rows else o for i, o in enumerate(others)]
            expected, tolerance = epilogue.evaluate(expected, tolerance, shaped)
        return Reference(expected, tolerance + UNIT_ROUNDOFF * np.abs(expected) + 2.0**-125)

    def _correlate(self, values: Mapping[str, Any], x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        pad, stride, dilation = values["pad"], values["stride"], values["dilation"]
        shape = self.result(values).shape
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        total = np.zeros(shape)
        for r, s in np.ndindex(values["kh"], values["kw"]):
            top, left = r * dilation, s * dilation
            window = padded[:, :, top : top + (shape[2] - 1) * stride + 1 : stride]
            window = window[:, :, :, left : left + (shape[3] - 1) * stride + 1 : stride]
            total += np.einsum("oc,ncij->noij", weight[:, :, r, s], window, optimize=True)
        return total


def _outputs(values: Mapping[str, Any], size: str, taps: str) -> int:
    reach = (values[taps] - 1) * values["dilation"] + 1
    return int((values[size] + 2 * values["pad"] - reach) // values["stride"] + 1)
