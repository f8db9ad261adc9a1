"""Softmax over the last axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.operators.base import CONFIDENCE, UNIT_ROUNDOFF, Field, Operator, Reference, choice, extent, storing
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Softmax(Operator):
    """``y[r,c] = exp(x[r,c] - max_c x[r,c]) / Σ_c exp(x[r,c] - max_c x[r,c])``."""

    name: ClassVar[str] = "softmax"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", extent),
        Field("cols", extent),
        Field("act", choice("f32", "bf16", "f16")),
    )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("x", (values["rows"], values["cols"]), values["act"]),)

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["rows"], values["cols"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Five a value: compare, subtract, exp, add, scale (exp counted once)."""
        return int(5 * values["rows"] * values["cols"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Normal logits of deviation 4, so that exponents span many binades."""
        return (4.0 * rng.standard_normal(tensor.shape, np.float32)).astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with tolerance ``y·(u·(16 + 2·|x-max| + λ√cols) + v) + 2^-125``.

        16u covers exp and the division, 2u|x-max| the rounding of exp's argument, λ√cols·u the sum, v the
        result's format, and the last term results that a kernel may flush to zero.
        """
        x = np.asarray(operands[0]).astype(np.float64)
        shifted = x - x.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        argument = np.where(expected > 0.0, np.abs(shifted), 0.0)  # a masked logit is -inf
        relative = UNIT_ROUNDOFF * (16.0 + 2.0 * argument + CONFIDENCE * np.sqrt(values["cols"]))
        rounding, smallest = storing(values["act"])
        return Reference(expected, expected * (relative + rounding) + smallest)
