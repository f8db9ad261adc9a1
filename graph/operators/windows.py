"""How a window slides over an image: steps along rows and columns, and what surrounds the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.graph.errors import InvalidWorkload
from fettle.graph.operators.base import extent


class Steps(tuple[int, int]):
    """(along the height, along the width); prints as ``2``, or ``2x1`` where they differ."""

    def __str__(self) -> str:
        return str(self[0]) if self[0] == self[1] else "x".join(map(str, self))


class Padding(tuple[int, int, int, int]):
    """(top, left, bottom, right), as ONNX orders them; prints as ``1``, ``1x2`` (height x width) or all four."""

    def __str__(self) -> str:
        if self[:2] != self[2:]:
            return "x".join(map(str, self))
        return str(Steps(self[:2]))


def steps(text: str) -> Steps:
    """One or two positive numbers.

    Raises:
        InvalidWorkload: anything else.
    """
    found = _numbers(text, extent, (1, 2))
    return Steps((found[0], found[-1]))


def padding(text: str) -> Padding:
    """One number for all four sides, two (height, width), or four (top, left, bottom, right).

    Raises:
        InvalidWorkload: anything else.
    """
    found = _numbers(text, lambda part: 0 if part == "0" else extent(part), (1, 2, 4))
    top, left, bottom, right = (found * 4)[:4] if len(found) != 2 else found * 2
    return Padding((top, left, bottom, right))


def _numbers(text: str, parse: Callable[[str], int], counts: Sequence[int]) -> list[int]:
    parts = text.split("x")
    if len(parts) not in counts:
        raise InvalidWorkload(f"{len(parts)} numbers in {text[:64]!r}, not {' or '.join(map(str, counts))}")
    return [parse(part) for part in parts]
