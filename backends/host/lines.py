"""Command traces line by line: ``#`` begins a comment, and a line that is refused is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fettle.graph.errors import InvalidArgument


def take_lines(lines: Iterable[str], take: Callable[[list[str]], None]) -> None:
    """Give the words of each line that has any to ``take``.

    Raises:
        InvalidArgument: what ``take`` raised, with the number and text of the line.
    """
    for number, line in enumerate(lines, start=1):
        if words := line.split("#", 1)[0].split():
            try:
                take(words)
            except InvalidArgument as error:
                raise InvalidArgument(f"line {number} of the trace, {line.strip()[:80]!r}: {error.message}") from None
