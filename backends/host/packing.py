"""Packed constants, kept because many schedules of a space share a layout and packing takes longer than measuring."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from fettle.backends.api import LoadedKernel
from fettle.graph.quantized import Operand

Packed = tuple[np.ndarray, ...]


class PackedConstants:
    """Keeps packed constants up to ``budget`` bytes and forgets the least recently used ones beyond."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: OrderedDict[Hashable, Packed] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Packed]) -> Packed:
        """The constants kept under a key; made, and kept if they fit, when there are none."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        packed = self._entries[key] = make()
        while self.nbytes > self._budget:
            self._entries.popitem(last=False)
        return packed

    def drop(self, belongs: Callable[[Hashable], bool]) -> None:
        """Forget the entries whose key ``belongs``."""
        for key in [key for key in self._entries if belongs(key)]:
            del self._entries[key]

    @property
    def nbytes(self) -> int:
        """Bytes kept."""
        return sum(array.nbytes for packed in self._entries.values() for array in packed)


class PackedOnce:
    """A kernel whose ``pack`` is answered from packed constants; everything else is the kernel's own."""

    def __init__(self, kernel: LoadedKernel, pack: Callable[[Sequence[Operand]], Packed]) -> None:
        self._kernel = kernel
        self._pack = pack

    def pack(self, constants: Sequence[Operand]) -> Packed:
        """The same arrays at every call: whoever wants several copies makes them."""
        return self._pack(constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self._kernel.run(inputs, packed, out)

    @property
    def __class__(self) -> type[Any]:
        """The kernel's class: a backend may insist on a kernel of its own."""
        return type(self._kernel)

    @__class__.setter
    def __class__(self, kind: type[Any]) -> None:
        raise AttributeError("a kernel's class is fixed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)
