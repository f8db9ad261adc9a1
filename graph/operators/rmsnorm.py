"""Root-mean-square normalisation over the last axis (Zhang & Sennrich, 1910.07467)."""

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


class RmsNorm(Operator):
    """``y[r,c] = x[r,c] / √(mean_c x[r,c]² + eps) · weight[c]``."""

    name: ClassVar[str] = "rmsnorm"
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
        )

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["rows"], values["cols"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Four a value: square, add, scale, weight."""
        return int(4 * values["rows"] * values["cols"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        data = rng.standard_normal(tensor.shape, np.float32)
        if tensor.name == "weight":
            data = np.float32(1.0) + np.float32(0.1) * data
        return data.astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with tolerance ``|y|·(u·(8 + λ√cols) + v) + smallest``.

        The sum of squares, then four roundings; v rounds to the result's format, smallest covers its subnormals.
        """
        x = np.asarray(operands[0]).astype(np.float64)
        weight = np.asarray(operands[1]).astype(np.float64)
        root = np.sqrt((x * x).mean(axis=1, keepdims=True) + values["eps"])
        expected = x / root * weight
        relative = UNIT_ROUNDOFF * (8.0 + CONFIDENCE * np.sqrt(values["cols"]))
        rounding, smallest = storing(values["act"])
        return Reference(expected, np.abs(expected) * (relative + rounding) + smallest)
