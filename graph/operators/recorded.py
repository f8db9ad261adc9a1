"""Whatever kernel a recording was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.errors import Unsupported
from fettle.graph.formats import Format
from fettle.graph.operators.base import Field, Operator, Reference
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec


class Recorded(Operator):
    """The workload a replay device brings with it. Only its times are known, so it has no operands and no meaning."""

    name: ClassVar[str] = "recorded"
    fields: ClassVar[tuple[Field, ...]] = ()

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        return ()

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        """One number: a workload has a result, and nothing is known of this one."""
        return TensorSpec("y", (1,), Format.parse("f32"))

    def flops(self, values: Mapping[str, Any]) -> int:
        """Unknown, hence 0."""
        return 0

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        raise Unsupported("a recorded workload has no operands")

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        raise Unsupported("a recorded workload cannot be run; only its times are known")
