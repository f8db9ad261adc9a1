"""Plans an arena, piece by piece: the search under several rankings with growing budgets, then CP-SAT."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from fettle.graph.errors import InvalidArgument
from fettle.graph.memory.buffers import Buffer, lower_bound, peak
from fettle.graph.memory.pieces import Piece, take_apart

SEARCH, EXACT, FIRST_FIT = "search", "cp-sat", "first-fit"

_RANKINGS = ("twa", "wat", "taw", "at")
"""Orders in which buffers are tried, descending: (t) the largest load of a section they live in, (w) the width of
their lifetime, (a) width times size. Which one works differs from instance to instance."""

_FIRST_NODES = 3000
_SEARCH_SHARE, _EXACT_SHARE = 0.5, 0.35
"""Of the time, what the search gets before the fallback starts, and what that gets; the rest is for lowering the peak
of a plan that does not fit."""

_MOST_EXACT = 1000
"""Buffers of a piece that CP-SAT is asked about; with more, presolving alone exceeds its time."""


@attrs.frozen
class MemoryPlan:
    """Where each buffer lies.

    Attributes:
        capacity: bytes there are.
        peak: bytes the plan needs; above ``capacity`` if none was found that fits.
        offsets: id -> byte offset.
        method: what found it: ``search``, ``cp-sat`` or ``first-fit``.
        seconds: wall time of planning.
        proved: nothing fits the capacity, for certain (only where ``fits`` is False).
    """

    capacity: int
    peak: int
    offsets: Mapping[str, int]
    method: str
    seconds: float
    proved: bool = False

    @property
    def fits(self) -> bool:
        return self.peak <= self.capacity


def plan(
    buffers: Sequence[Buffer],
    capacity: int,
    *,
    seconds: float = 55.0,
    clock: Callable[[], float] = time.monotonic,
) -> MemoryPlan:
    """Offsets within ``capacity`` bytes if they can be found in time; else the lowest peak found.

    Args:
        seconds: wall time that the search, the fallback and lowering the peak may take together. Where Numba has not
            compiled the search before, that comes on top: some ten seconds.

    Raises:
        InvalidArgument: no buffers, or a capacity below 1.
    """
    if not buffers or capacity < 1:
        raise InvalidArgument("a plan needs buffers and a capacity of at least one byte")
    begun = clock()
    best, method = _first_fit(buffers), FIRST_FIT
    proved = lower_bound(buffers) > capacity
    if peak(buffers, best) > capacity and not proved:
        _compile()
        fallback = clock() + _SEARCH_SHARE * seconds
        attempt = _Attempt(fallback, fallback + _EXACT_SHARE * seconds, clock)
        found = attempt.solve(buffers, capacity)
        proved = attempt.proved
        if found is not None:
            best, method = found, attempt.method
    if peak(buffers, best) > capacity:
        until = clock() + (1.0 - _SEARCH_SHARE - _EXACT_SHARE) * seconds
        best, method = _improved(buffers, best, max(capacity, lower_bound(buffers)), until, clock)
    return MemoryPlan(capacity, peak(buffers, best), best, method, clock() - begun, proved)


class _Attempt:
    """One try at one capacity.

    Args:
        fallback: clock seconds at which the search gives way to CP-SAT.
        until: clock seconds at which that gives up.
    """

    def __init__(self, fallback: float, until: float, clock: Callable[[], float]) -> None:
        self._fallback, self._until, self._clock = fallback, until, clock
        self.method = SEARCH
        self.proved = False

    def solve(self, buffers: Sequence[Buffer], capacity: int) -> dict[str, int] | None:
        """Offsets, or None; :attr:`proved` says whether there are none."""
        offsets, pieces = take_apart(buffers, capacity)
        if min(offsets.values(), default=0) < 0:
            self.proved = True
            return None
        for piece in sorted(pieces, key=lambda p: len(p.buffers)):
            found = self._solve(piece)
            if found is None:
                return None
            offsets.update(found)
        return offsets

    def _solve(self, piece: Piece) -> dict[str, int] | None:
        found, self.proved = _search(piece.buffers, piece.capacity, self._fallback, self._clock)
        late = self._clock() >= self._until
        if found is None and not self.proved and not late and len(piece.buffers) <= _MOST_EXACT:
            from fettle.graph.memory.exact import solve

            found = solve(piece.buffers, piece.capacity, max(self._until - self._clock(), 1.0))
            self.method = EXACT
        return found


def _compile() -> None:
    """Compile the search, or load it from Numba's cache."""
    from fettle.graph.memory import search

    one = np.ones(1, np.int64)
    search.place(search.state_of(0 * one, one, one, 0 * one, 1), 1)


def _search(
    buffers: Sequence[Buffer], capacity: int, until: float, clock: Callable[[], float]
) -> tuple[dict[str, int] | None, bool]:
    """Offsets that fit, or None and whether that is a proof."""
    from fettle.graph.memory import search

    moments, bounds = np.unique([[b.lower, b.upper] for b in buffers], return_inverse=True)
    first, last = bounds.reshape(-1, 2).T.astype(np.int64)
    size = np.array([b.size for b in buffers], np.int64)
    width = moments[last] - moments[first]
    alive = (first <= np.arange(len(moments))[:, None]) & (np.arange(len(moments))[:, None] < last)
    load = (alive * size).sum(axis=1)
    sort_keys = {"t": -np.where(alive, load[:, None], 0).max(axis=0), "w": -width, "a": -width * size.astype(float)}
    nodes = _FIRST_NODES
    while True:
        for ranking in _RANKINGS:
            ranks = np.lexsort([sort_keys[name] for name in reversed(ranking)])
            state = search.state_of(first, last, size, ranks, nodes)
            outcome = search.place(state, capacity)
            if outcome == search.FITS:
                offsets = state.offset[np.argsort(ranks)]
                return {b.id: int(offset) for b, offset in zip(buffers, offsets, strict=True)}, False
            if outcome == search.NONE_FITS:
                return None, True
            if clock() >= until:
                return None, False
        nodes *= 2


def _improved(
    buffers: Sequence[Buffer], best: dict[str, int], low: int, until: float, clock: Callable[[], float]
) -> tuple[dict[str, int], str]:
    """Lower the peak of a plan by bisection between it and ``low``, while time lasts."""
    method, high = FIRST_FIT, peak(buffers, best)
    while low < high and clock() < until:
        middle = (low + high) // 2
        soon = min(until, clock() + 1.0)
        found = _Attempt(soon, soon, clock).solve(buffers, middle)
        if found is None:
            low = middle + 1
        else:
            best, method, high = found, SEARCH, peak(buffers, found)
    return best, method


def _first_fit(buffers: Sequence[Buffer]) -> dict[str, int]:
    """Largest area first, each into the lowest gap that takes it: fast, and often good enough."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (b.lower - b.upper) * b.size):
        offset = 0
        for other, neighbour in placed:  # ascending offsets
            if neighbour.lower < buffer.upper and buffer.lower < neighbour.upper:
                if other - offset >= buffer.size:
                    break
                offset = max(offset, other + neighbour.size)
        placed.append((offset, buffer))
        placed.sort(key=lambda pair: pair[0])
    return {buffer.id: offset for offset, buffer in placed}
