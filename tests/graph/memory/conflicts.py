"""What makes a plan of memory wrong, found by looking at every pair of buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fettle.graph.memory.buffers import Buffer


def conflicts(buffers: Sequence[Buffer], offsets: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs that share a byte at some time. A plan is right if there are none."""
    found = []
    for number, one in enumerate(buffers):
        start = offsets[one.id]
        for two in buffers[:number]:
            other = offsets[two.id]
            in_time = one.lower < two.upper and two.lower < one.upper
            if in_time and start < other + two.size and other < start + one.size:
                found.append((two.id, one.id))
    return found
