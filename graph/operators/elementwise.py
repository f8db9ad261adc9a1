"""Fused chains of elementwise operations over operands of one shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.errors import InvalidWorkload
from fettle.graph.expressions import Expression
from fettle.graph.operators.base import (
    UNIT_ROUNDOFF,
    Field,
    Operator,
    Reference,
    choice,
    shape,
    storing,
    storing_codes,
)
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Elementwise(Operator):
    """``y = expr(x0, x1, …)``, e.g. ``expr=silu(x0)*x1``; see :mod:`fettle.graph.expressions`.

    Operands of ``act=u8`` and ``act=i8`` are the numbers that their codes are. A result of ``out=u8`` or ``out=i8`` is
    rounded to the nearest whole number, halves to the even one, and kept between the format's bounds.
    """

    name: ClassVar[str] = "elementwise"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("shape", shape),
        Field("act", choice("f32", "bf16", "f16", "u8", "i8")),
        Field("expr", Expression.parse),
        Field("out", choice("f32", "bf16", "f16", "u8", "i8"), default=lambda v: v["act"]),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        kinds = {values["act"].kind, values["out"].kind}
        if len(kinds) > 1 and kinds & {"bf16", "f16"}:
            raise InvalidWorkload(
                f"elementwise: act={values['act']} with out={values['out']}",
                hint="the two differ in f32, u8 and i8 only",
            )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        expression: Expression = values["expr"]
        return tuple(TensorSpec(f"x{i}", tuple(values["shape"]), values["act"]) for i in range(expression.arity))

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", tuple(values["shape"]), values["out"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """One per operation of the expression and element (a function counts once)."""
        expression: Expression = values["expr"]
        return int(math.prod(values["shape"])) * expression.operations

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        dtype = tensor.format.dtype
        if dtype.kind in "iu":
            return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, tensor.shape, dtype, endpoint=True)
        return rng.standard_normal(tensor.shape, np.float32).astype(dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with a running first-order error bound through the expression (Higham, ASNA §3.3)."""
        expression: Expression = values["expr"]
        expected, tolerance = expression.evaluate_with_bound([np.asarray(o).astype(np.float64) for o in operands])
        if values["out"].dtype.kind in "iu":
            return storing_codes(expected, tolerance + UNIT_ROUNDOFF * np.abs(expected), values["out"])
        rounding, smallest = storing(values["out"])
        return Reference(expected, tolerance + max(UNIT_ROUNDOFF, rounding) * np.abs(expected) + smallest)
