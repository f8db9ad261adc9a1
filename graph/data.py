"""Verification data: deterministic operands for a workload, and its reference result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from fettle.graph import codec
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


def keyed_rng(*key: object) -> np.random.Generator:
    """PCG64 seeded by a key: the same key gives the same stream everywhere."""
    digest = hashlib.sha256(codec.encode(key)).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def operands(workload: Workload, seed: int) -> tuple[Operand, ...]:
    """One operand set: PCG64 keyed by (seed, workload key, operand), results O(1)."""
    result = []
    for index, tensor in enumerate(workload.operands):
        rng = keyed_rng("fettle.data", seed, workload.key, index)
        result.append(workload.spec.sample(workload.values, tensor, rng))
    return tuple(result)


def reference(workload: Workload, values: Sequence[Operand]) -> Reference:
    """Expected result in float64 and the elementwise tolerance the correctness gate uses."""
    return workload.spec.reference(workload.values, values)
