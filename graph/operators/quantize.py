"""Activations rounded to 8 bits in groups, once for all products that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fettle.graph.formats import Format
from fettle.graph.operators.base import CONFIDENCE, UNIT_ROUNDOFF, Field, Operator, Reference, choice, extent
from fettle.graph.prepared import PreparedFormat
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec

_ROUNDING = 0.5 + 2.0**-12
"""Half a unit, and what computing in float32 adds: a few u of at most 127 units."""


class Quantize(Operator):
    """``y = prepared(x)`` in the format ``out``: see :mod:`fettle.graph.prepared` for the parts of y.

    ``matmul`` reads y where its ``act`` is that format. Tables are T-MAC's (2407.00088), built by an operator of
    their own as LUT Tensor Core (2408.06003) wants it.
    """

    name: ClassVar[str] = "quantize"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", extent),
        Field("cols", extent),
        Field("act", choice("f32", "bf16", "f16")),
        Field("out", PreparedFormat.parse),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        values["out"].groups(values["cols"])

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("x", (values["rows"], values["cols"]), values["act"]),)

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["out"].words(values["rows"], values["cols"]),), Format("i32"))

    def flops(self, values: Mapping[str, Any]) -> int:
        """Three an activation (a maximum, a product, a sum), and of tables one more for each entry."""
        each = 3 if values["out"].element == "i8" else 7
        return int(each * values["rows"] * values["cols"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Standard normal activations."""
        return rng.standard_normal(tensor.shape, np.float32).astype(tensor.format.dtype)

    def decode(self, values: Mapping[str, Any], result: NDArray[Any]) -> NDArray[Any]:
        """Codes or entries as numbers; then, for each group, its total less the sum of what was rounded.

        Of tables the total is a sum of its own, of what was not rounded.
        """
        rows, cols, fmt = values["rows"], values["cols"], values["out"]
        numbers, totals = fmt.values(result, rows, cols), fmt.totals(result, rows, cols)
        if fmt.element == "i8":
            totals = totals - numbers.reshape(rows, -1, fmt.group).sum(axis=2)
        return np.concatenate([numbers.reshape(-1), totals.reshape(-1)])

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, decoded, with the tolerance (l the group's unit, λ = ``CONFIDENCE``, u = 2^-24)::

        (1/2 + 2^-12)·l            codes and entries: rounded to the nearest, scaled in float32
        l/2                        totals of codes: exact, one half tells them from their neighbours
        λ·√G·u·Σ|x| + u·Σ|x|       totals of tables: a sum of G activations in any order
        """
        fmt: PreparedFormat = values["out"]
        x = np.asarray(operands[0]).astype(np.float64)
        numbers, units, sums = fmt.exact(x)
        limits = np.repeat(_ROUNDING * units, numbers.shape[1] // units.shape[1], axis=1)
        if fmt.element == "i8":
            sums, slack = np.zeros(units.shape), 0.5 * units
        else:
            sizes = np.abs(x).reshape(*units.shape, fmt.group).sum(axis=2)
            slack = (CONFIDENCE * np.sqrt(fmt.group) + 1.0) * UNIT_ROUNDOFF * sizes
        return Reference(
            np.concatenate([numbers.reshape(-1), sums.reshape(-1)]),
            np.concatenate([limits.reshape(-1), slack.reshape(-1)]),
        )
