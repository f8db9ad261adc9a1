"""Weights kept small without losing a bit, and made whole again before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.operators.base import Field, Operator, Reference, choice, extent
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Lossless(Operator):
    """``y = weight``: a constant in whatever form takes less memory, decoded to exactly the numbers it was
    (DFloat11, 2504.11651, codes the exponents of bf16 by their entropy)."""

    name: ClassVar[str] = "lossless"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("n", extent),
        Field("k", extent),
        Field("act", choice("bf16")),
    )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return (TensorSpec("weight", (values["n"], values["k"]), values["act"], constant=True),)

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["n"], values["k"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """None: bits are moved."""
        return 0

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Normal, as trained weights nearly are, scaled by 1/√K."""
        data = rng.standard_normal(tensor.shape, np.float32) / np.float32(np.sqrt(values["k"]))
        return data.astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """The weight itself, with tolerance 0."""
        expected = np.asarray(operands[0]).astype(np.float64)
        return Reference(expected, np.zeros_like(expected))
