"""Layer normalisation over the last axis (Ba, Kiros & Hinton, 1607.06450)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.operators.base import (
    CONFIDENCE,
    UNIT_ROUNDOFF,
    Field,
    Operator,
    Reference,
    choice,
    extent,
    positive_float,
    storing,
)
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class LayerNorm(Operator):
    """``y[r,c] = (x[r,c] - μ[r]) / √(mean_c (x[r,c] - μ[r])² + eps) · weight[c] + bias[c]``, μ the mean of a row."""

    name: ClassVar[str] = "layernorm"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", extent),
        Field("cols", extent),
        Field("act", choice("f32", "bf16", "f16")),
        Field("eps", positive_float, default=lambda v: 1e-5),
    )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("x", (values["rows"], values["cols"]), values["act"]),
            TensorSpec("weight", (values["cols"],), values["act"], constant=True),
            TensorSpec("bias", (values["cols"],), values["act"], constant=True),
        )

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["rows"], values["cols"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Seven a value: add, subtract, square, add, scale, weight, bias."""
        return int(7 * values["rows"] * values["cols"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Rows of deviation 1 around 1; weights near 1, biases near 0."""
        data = rng.standard_normal(tensor.shape, np.float32)
        if tensor.name == "bias":
            data = np.float32(0.1) * data
        else:
            data = np.float32(1.0) + (np.float32(0.1) if tensor.name == "weight" else np.float32(1.0)) * data
        return data.astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with the tolerance (σ the root, d = x - μ, e the error of the mean)::

          e   = u·(λ√cols·mean|x| + 2·|μ|)
          |w|·e/σ                                 the mean's error, in every d
        + |d·w/σ|·(u·(8 + λ√cols) + e²/σ²)        the sum of squares, which e² enters; then a few roundings
        + u·(|d·w/σ| + |b|) + v·|y| + smallest    the bias; v and smallest are the result format's
        """
        x, weight, bias = (np.asarray(o).astype(np.float64) for o in operands)
        mean = x.mean(axis=1, keepdims=True)
        centred = x - mean
        root = np.sqrt((centred**2).mean(axis=1, keepdims=True) + values["eps"])
        scaled = centred / root * weight
        expected = scaled + bias
        chain = CONFIDENCE * np.sqrt(values["cols"])
        off = UNIT_ROUNDOFF * (chain * np.abs(x).mean(axis=1, keepdims=True) + 2.0 * np.abs(mean))
        tolerance = np.abs(weight) * off / root
        tolerance += np.abs(scaled) * (UNIT_ROUNDOFF * (9.0 + chain) + (off / root) ** 2) + UNIT_ROUNDOFF * np.abs(bias)
        rounding, smallest = storing(values["act"])
        return Reference(expected, tolerance + rounding * np.abs(expected) + smallest)
