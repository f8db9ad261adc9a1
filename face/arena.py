"""One arena for the tensors between the nodes of a model: planned once, reused by every call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from fettle.graph.memory.buffers import Buffer, lower_bound
from fettle.graph.memory.plan import plan

LINE = 64
"""Bytes; tensors begin at multiples of a cache line."""

_PLANNING_SECONDS = 1.0

Kind = tuple[tuple[int, ...], np.dtype]
"""Shape and type of a tensor."""


@attrs.frozen(eq=False)
class Arena:
    """Where tensors lie.

    Attributes:
        views: name -> the tensor's array in the arena.
        peak: bytes of the arena.
        least: bytes that live at the same time at most; no arena is smaller.
        together: bytes of all its tensors, had each memory of its own.
        method: what found the plan; empty without tensors.
    """

    views: Mapping[str, np.ndarray]
    peak: int
    least: int
    together: int
    method: str


def lay_out(steps: Sequence[tuple[Sequence[str], Sequence[str]]], types: Mapping[str, Kind]) -> Arena:
    """Plan an arena.

    Args:
        steps: (tensors made, tensors not used afterwards) of each step; a tensor lives from the step that makes it to
            the step that uses it last, or to the end. Tensors that no step makes are somebody else's.
        types: shape and type of the tensors that shall lie in the arena, as far as they are known.
    """
    last = {name: number for number, (_, dying) in enumerate(steps) for name in dying}
    buffers = []
    for number, (made, _) in enumerate(steps):
        for name in made:
            if name in types and (size := _lines(types[name])):
                buffers.append(Buffer(name, number, last.get(name, len(steps) - 1) + 1, size))
    if not buffers:
        return Arena({}, 0, 0, 0, "")
    least = lower_bound(buffers)
    found = plan(buffers, least, seconds=_PLANNING_SECONDS)
    memory = np.zeros(LINE * (found.peak + 1), np.uint8)
    start = -memory.ctypes.data % LINE
    views = {}
    for buffer in buffers:
        shape, dtype = types[buffer.id]
        offset = start + LINE * found.offsets[buffer.id]
        views[buffer.id] = memory[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
    together = LINE * sum(buffer.size for buffer in buffers)
    return Arena(views, LINE * found.peak, LINE * least, together, found.method)


def _lines(kind: Kind) -> int:
    shape, dtype = kind
    return -(-math.prod(shape) * dtype.itemsize // LINE)
