"""Takes a planning problem apart before it is searched: what can be decided at once, and what is independent."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from fettle.graph.memory.buffers import Buffer


@attrs.frozen
class Piece:
    """Buffers to be planned by themselves, and the capacity left for them."""

    buffers: tuple[Buffer, ...]
    capacity: int


def take_apart(buffers: Sequence[Buffer], capacity: int) -> tuple[dict[str, int], list[Piece]]:
    """Offsets that lose nothing, and the independent pieces of the rest.

    A buffer that lives as long as everything around it goes on top of all of it; without it, time may fall into
    parts that no lifetime crosses, and so on. An offset may come out negative: then nothing fits.
    """
    fixed: dict[str, int] = {}
    pieces: list[Piece] = []
    waiting = [Piece(tuple(buffers), capacity)]
    while waiting:
        for part in _parts(waiting.pop()):
            begin = min(b.lower for b in part.buffers)
            end = max(b.upper for b in part.buffers)
            rest, left = [], part.capacity
            for buffer in part.buffers:
                if (buffer.lower, buffer.upper) == (begin, end):
                    left -= buffer.size
                    fixed[buffer.id] = left
                else:
                    rest.append(buffer)
            if len(rest) == len(part.buffers):
                pieces.append(part)
            elif rest:
                waiting.append(Piece(tuple(rest), left))
    return fixed, pieces


def _parts(piece: Piece) -> list[Piece]:
    parts: list[list[Buffer]] = []
    reach = -1
    for buffer in sorted(piece.buffers, key=lambda b: b.lower):
        if buffer.lower >= reach:
            parts.append([])
        parts[-1].append(buffer)
        reach = max(reach, buffer.upper)
    return [Piece(tuple(part), piece.capacity) for part in parts]
