"""Fused chains of elementwise operations over operands of one shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.expressions import Expression
from fettle.graph.operators.base import UNIT_ROUNDOFF, Field, Operator, Reference, choice, shape, storing
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Elementwise(Operator):
    """``y = expr(x0, x1, …)``, e.g. ``expr=silu(x0)*x1``; see :mod:`fettle.graph.expressions`."""

    name: ClassVar[str] = "elementwise"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("shape", shape),
        Field("act", choice("f32", "bf16", "f16")),
        Field("expr", Expression.parse),
    )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        expression: Expression = values["expr"]
        return tuple(TensorSpec(f"x{i}", tuple(values["shape"]), values["act"]) for i in range(expression.arity))

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", tuple(values["shape"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """One per operation of the expression and element (a function counts once)."""
        expression: Expression = values["expr"]
        return int(math.prod(values["shape"])) * expression.operations

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        return rng.standard_normal(tensor.shape, np.float32).astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with a running first-order error bound through the expression (Higham, ASNA §3.3)."""
        expression: Expression = values["expr"]
        expected, tolerance = expression.evaluate_with_bound([np.asarray(o).astype(np.float64) for o in operands])
        rounding, smallest = storing(values["act"])
        return Reference(expected, tolerance + max(UNIT_ROUNDOFF, rounding) * np.abs(expected) + smallest)
