"""The row operators as one kernel family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fettle.backends.api import Candidate
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.rows import spaces


class Rows(Family):
    """Softmax, normalisations and elementwise chains over f32, bf16 or f16, computed in float32.

    Vectorised for AVX-512, AVX2 or 128 bits.
    """

    name: ClassVar[str] = "rows"
    operators: ClassVar[tuple[str, ...]] = ("softmax", "rmsnorm", "layernorm", "elementwise")
    spaces: ClassVar[Spaces] = spaces

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        return spaces.features(candidate)

    def lower(self, candidate: Candidate) -> Lowered:
        self.check(candidate)
        from fettle.backends.cpu.rows import elementwise, layernorm, rmsnorm, softmax

        kernels = {
            "softmax": softmax.lower,
            "rmsnorm": rmsnorm.lower,
            "layernorm": layernorm.lower,
            "elementwise": elementwise.lower,
        }
        return Lowered(kernels[candidate.workload.operator](candidate))
