"""A matrix product as the array sees it: extents, and bits of what is moved."""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.npu.systolic.hardware import MAC, Systolic
from fettle.graph.formats import BITS, PER_ROW, Format
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

ACCUMULATOR_BYTES = 4

Ints = NDArray[np.int64]


@attrs.frozen
class Product:
    """``batch`` products ``[m, k] · [k, n]``.

    Attributes:
        act, weight, out: formats of inputs, of weights (or of the dynamic right-hand side), of results.
        vector_operations: elementary operations of the vector unit per result.
        weight_batches: 1 if the batch shares its weights.
    """

    batch: int
    m: int
    n: int
    k: int
    act: Format
    weight: Format
    out: Format
    vector_operations: int = 1

    @classmethod
    def of(cls, workload: Workload) -> Product:
        """The product of a matmul workload."""
        values = workload.values
        weight = values["weight"] or values["rhs"]
        operations = 1 + (weight.groups(values["k"]) if weight.is_quantised else 0)  # a scale joins each group's sum
        shape = (values["batch"], values["m"], values["n"], values["k"])
        return cls(*shape, values["act"], weight, values["out"], operations)

    @property
    def extents(self) -> tuple[int, int, int]:
        """m, n, k."""
        return self.m, self.n, self.k

    @property
    def macs(self) -> int:
        return self.batch * self.m * self.n * self.k

    @property
    def input_bytes(self) -> int:
        """Of one element."""
        return self.act.bits // 8

    @property
    def output_bytes(self) -> int:
        """Of one element."""
        return self.out.bits // 8

    def weight_bytes(self, columns: Ints, first: Ints, last: Ints) -> Ints:
        """Bytes of weight tiles ``[columns, first:last]``, with the scales and zero points of the groups they touch."""
        plain = -(-columns * (last - first) * self.weight.bits // 8)
        if not self.weight.is_quantised:
            return plain
        group = self.k if self.weight.group == PER_ROW else int(self.weight.group or self.k)
        groups = -(-last // group) - first // group
        extra = BITS[self.weight.scale] + (self.weight.bits if self.weight.zero_points else 0)
        return np.asarray(plain + -(-columns * groups * extra // 8))

    @property
    def weight_centibits(self) -> int:
        """Hundredths of a bit per weight, groups' scales included, rounded up."""
        return math.ceil(100 * self.weight.bits_per_weight(self.k))


def unsupported(workload: Workload, hardware: Systolic) -> str:
    """Why a matmul cannot be mapped; empty if it can."""
    values = workload.values
    weight = values["weight"] or values["rhs"]
    if values["epilogue"] is not None:
        return "the npu maps products without an epilogue"
    if values["zero"] or values["act"].kind == "u8":
        return "the npu takes signed codes without a zero point"
    if isinstance(values["act"], PreparedFormat):
        return "the npu takes activations that nobody has prepared"
    if weight.is_binary_coded or weight.encodes_numbers:
        return f"the npu takes integer codes, not {weight}"
    if hardware.pe != MAC and not (weight.is_quantised or weight.kind == "i8"):
        return f"pe={hardware.pe} needs integer weights, not {weight}"
    return ""
