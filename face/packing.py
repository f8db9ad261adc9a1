"""Packed constants: one copy for all kernels of this process that read the same layout.

Decoding and prompts run different kernels on the same weights. Where these have one layout, which is what
:func:`fettle.tune_distribution` looks for, the weights are packed once and kept once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from fettle.backends.api import Device
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Packed:
    """Constants in one layout; shared as long as somebody keeps it."""

    __slots__ = ("__weakref__", "arrays", "sources")

    def __init__(self, arrays: tuple[np.ndarray, ...], constants: Sequence[Operand]) -> None:
        self.arrays = arrays
        self.sources = tuple(weakref.ref(constant) for constant in constants)

    def is_of(self, constants: Sequence[Operand]) -> bool:
        """Whether these very objects were packed: a new one may have the id of one that is gone."""
        return all(source() is constant for source, constant in zip(self.sources, constants, strict=True))


_shared: weakref.WeakValueDictionary[Hashable, Packed] = weakref.WeakValueDictionary()


def pack_once(
    workload: Workload,
    device: Device,
    layout: str,
    constants: Sequence[Operand],
    pack: Callable[[Sequence[Operand]], tuple[np.ndarray, ...]],
) -> Packed:
    """The constants in the layout of a device's kernels: what another one keeps, else packed now.

    Args:
        workload: whose constants they are; kernels share with those that differ in the number of rows, ``m``, only.
        layout: ``Artifact.weight_layout``; nothing is shared where it is empty.
    """
    fields = tuple((name, str(value)) for name, value in workload.values.items() if name != "m")
    key = (device.key, layout, workload.operator, fields, *map(id, constants))
    found = _shared.get(key) if layout else None
    if found is None or not found.is_of(constants):
        found = Packed(pack(constants), constants)
        if layout:
            _shared[key] = found
    return found
