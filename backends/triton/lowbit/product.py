"""What the modules of this family ask of a workload."""

from __future__ import annotations

import attrs

from fettle.backends.triton.targets import Target
from fettle.graph.formats import PER_ROW, Format
from fettle.graph.workload import Workload


@attrs.frozen
class Product:
    """``y[m, n] = Σ_k x[m, k] · W[n, k]`` with a quantised W."""

    m: int
    n: int
    k: int
    act: str
    out: str
    compute: str
    weight: Format

    @classmethod
    def of(cls, workload: Workload) -> Product:
        return cls(
            workload["m"],
            workload["n"],
            workload["k"],
            workload["act"].kind,
            workload["out"].kind,
            workload["compute"].kind,
            workload["weight"],
        )

    @property
    def group(self) -> int:
        """Elements of K that share a scale."""
        return self.k if self.weight.group in (PER_ROW, None) else min(int(self.weight.group or 0), self.k)

    @property
    def rounds_weights(self) -> bool:
        """Whether scaled weights may be rounded to the activations' format."""
        return self.compute in ("i8", "f8e4m3", self.act)

    @property
    def takes_integers(self) -> bool:
        """Whether activations may be rounded to int8 and centred codes fit int8 too."""
        fits = not self.weight.zero_points or self.weight.bits < 8
        exact = not self.weight.is_minifloat and not self.weight.is_binary_coded
        return self.compute == "i8" and exact and fits

    @property
    def stack(self) -> int:
        """Planes of one bit that words of 16 bits hold one behind another, as if K were so many times as long."""
        return self.weight.scale_planes

    @property
    def word_bits(self) -> int:
        """Bits of a code in words of 16 bits."""
        return self.weight.bits // self.stack

    def takes_fp8(self, target: Target) -> bool:
        """Whether activations may be rounded to fp8, which the codes are in already and the target multiplies."""
        return self.compute == self.weight.kind == "f8e4m3" and target.has_fp8
