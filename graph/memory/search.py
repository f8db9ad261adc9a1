"""Depth-first search for offsets that fit a capacity, in the manner of MiniMalloc (Moffitt, ASPLOS 2023).

* *Canonical placements.* Pushing every buffer of a plan down as far as it goes gives a plan whose buffers rest on
  others or on the floor. Placed in the order of their offsets (then of their ranks), each goes to the top of the
  placed buffers it overlaps in time: so a node only decides which buffer comes next.
* *Dominance.* A buffer that would start at or above the end of another one that could still go below it comes later.
* *Sections.* Time is cut where lifetimes begin or end. What is still to come in a section lies above its floor, so a
  floor plus the sizes to come beyond the capacity ends a branch. Where no lifetime to come crosses a cut, the
  sides are solved one after the other, and a side that fails is not tried again for another plan of its sibling.
* *Lids.* A buffer that lives as long as all that is still to come around it can lie on top of them without loss
  (whatever is above it in a plan moves down by its size), which lowers the ceiling there and may open a cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

FITS, NONE_FITS, GAVE_UP = 1, 0, -1

_MOST_LOOKS = 1_000_000
"""Buffers looked at in sections, for each node allowed: thousands of buffers would otherwise take minutes."""

Ints = NDArray[np.int64]


class State(NamedTuple):
    """A partly solved problem; ``n`` buffers by rank, ``s`` sections.

    Attributes:
        first, last: ``[n]`` sections in which a buffer lives, half-open.
        size: ``[n]`` bytes.
        low: ``[n]`` top of the placed buffers that a buffer overlaps in time.
        offset: ``[n]`` where a buffer is placed, -1 if it is not.
        load: ``[s]`` bytes to come in a section.
        starts, members: buffers of section *i* are ``members[starts[i]:starts[i + 1]]``.
        order: ``[n]`` placed buffers, the latest last.
        counts: nodes visited, nodes allowed, buffers placed, buffers looked at in sections.
    """

    first: Ints
    last: Ints
    size: Ints
    low: Ints
    offset: Ints
    load: Ints
    starts: Ints
    members: Ints
    order: Ints
    counts: Ints

    @classmethod
    def of(cls, first: Ints, last: Ints, size: Ints, nodes: int) -> State:
        """Nothing is placed yet; ranks are positions in the arrays."""
        count, sections = len(size), int(last.max())
        alive = (first <= np.arange(sections)[:, None]) & (np.arange(sections)[:, None] < last)
        return cls(
            first,
            last,
            size,
            np.zeros(count, np.int64),
            np.full(count, -1, np.int64),
            (alive * size).sum(axis=1),
            np.concatenate([[0], np.cumsum(alive.sum(axis=1))]).astype(np.int64),
            np.nonzero(alive)[1].astype(np.int64),
            np.zeros(count, np.int64),
            np.array([0, nodes, 0, 0], np.int64),
        )


def place(state: State, capacity: int) -> int:
    """FITS with ``state.offset`` filled in, NONE_FITS as a proof, or GAVE_UP after ``counts[1]`` nodes."""
    result: int = _solve(state, 0, len(state.load), 0, -1, capacity)
    return result


@njit(cache=True)
def _put(state: State, buffer: int, offset: int) -> None:  # pragma: no cover (compiled)
    state.offset[buffer] = offset
    state.order[state.counts[2]] = buffer
    state.counts[2] += 1
    state.load[state.first[buffer] : state.last[buffer]] -= state.size[buffer]


@njit(cache=True)
def _take_back(state: State, depth: int, low: Ints) -> None:  # pragma: no cover (compiled)
    """Undo all placements after the first ``depth``."""
    while state.counts[2] > depth:
        state.counts[2] -= 1
        buffer = state.order[state.counts[2]]
        state.offset[buffer] = -1
        state.load[state.first[buffer] : state.last[buffer]] += state.size[buffer]
    state.low[:] = low


@njit(cache=True)
def _raise(state: State, buffer: int, capacity: int) -> bool:  # pragma: no cover (compiled)
    """Lift what overlaps a placed buffer in time onto its top; False if something then sticks out."""
    top = state.offset[buffer] + state.size[buffer]
    for other in range(len(state.size)):
        overlaps = state.first[other] < state.last[buffer] and state.first[buffer] < state.last[other]
        if state.offset[other] < 0 and overlaps and state.low[other] < top:
            state.low[other] = top
            if top + state.size[other] > capacity:
                return False
    return True


@njit(cache=True)
def _sections_fit(state: State, begin: int, end: int, floor: int, capacity: int) -> bool:  # pragma: no cover
    for section in range(begin, end):
        if state.load[section] == 0:
            continue
        lowest = capacity
        state.counts[3] += state.starts[section + 1] - state.starts[section]
        for at in range(state.starts[section], state.starts[section + 1]):
            buffer = state.members[at]
            if state.offset[buffer] < 0:
                lowest = min(lowest, state.low[buffer])
        if max(lowest, floor) + state.load[section] > capacity:
            return False
    return True


@njit(cache=True)
def _reach(state: State, begin: int) -> int:  # pragma: no cover (compiled)
    """The first cut after ``begin`` that no lifetime to come crosses."""
    reach = begin + 1
    section = begin
    while section < reach:
        for at in range(state.starts[section], state.starts[section + 1]):
            buffer = state.members[at]
            if state.offset[buffer] < 0:
                reach = max(reach, state.last[buffer])
        section += 1
    return reach


@njit(cache=True)
def _put_lids(state: State, begin: int, end: int, capacity: int) -> tuple[int, bool]:  # pragma: no cover (compiled)
    """Put what lives in all sections ``begin … end`` under the ceiling: the new ceiling, and whether they fit."""
    fits = True
    for buffer in range(len(state.size)):
        if state.offset[buffer] < 0 and state.first[buffer] == begin and state.last[buffer] == end:
            capacity -= state.size[buffer]
            fits = fits and capacity >= state.low[buffer]
            _put(state, buffer, max(capacity, 0))
    return capacity, fits


@njit(cache=True)
def _choices(
    state: State, begin: int, end: int, floor: int, rank: int, capacity: int
) -> tuple[Ints, int]:  # pragma: no cover (compiled)
    """Buffers that may come next, lowest first; and where those begin that another one dominates."""
    dominated = capacity + 1
    choices = np.empty(len(state.size), np.int64)
    count = 0
    for buffer in range(len(state.size)):
        if state.offset[buffer] < 0 and state.first[buffer] >= begin and state.last[buffer] <= end:
            dominated = min(dominated, max(state.low[buffer], floor) + state.size[buffer])
            if state.low[buffer] > floor or (state.low[buffer] == floor and buffer > rank):
                choices[count] = buffer
                count += 1
    choices = choices[:count]
    return choices[np.argsort(state.low[choices] * len(state.size) + choices)], dominated


@njit(cache=True)
def _solve(state: State, begin: int, end: int, floor: int, rank: int, capacity: int) -> int:  # pragma: no cover
    """Place what is left in sections ``begin … end``, after a buffer of that rank at ``floor``."""
    state.counts[0] += 1
    if state.counts[0] > state.counts[1] or state.counts[3] > _MOST_LOOKS * state.counts[1]:
        return GAVE_UP
    low = state.low.copy()
    depth = state.counts[2]

    at = begin
    while at < end:  # pieces of time that no lifetime to come connects
        if state.load[at] == 0:
            at += 1
            continue
        reach = _reach(state, at)
        if at == begin and reach == end:
            break  # one piece
        result = _solve(state, at, reach, floor, rank, capacity)
        if result != FITS:
            _take_back(state, depth, low)
            return result
        at = reach
    if at >= end:
        return FITS

    ceiling, fits = _put_lids(state, begin, end, capacity)
    if state.counts[2] > depth:
        result = NONE_FITS
        if fits and _sections_fit(state, begin, end, floor, ceiling):
            result = _solve(state, begin, end, floor, rank, ceiling)
        if result != FITS:
            _take_back(state, depth, low)
        return result

    choices, dominated = _choices(state, begin, end, floor, rank, capacity)
    for choice in range(len(choices)):
        buffer = choices[choice]
        offset = state.low[buffer]
        if offset >= dominated:
            break
        _put(state, buffer, offset)
        result = NONE_FITS
        if _raise(state, buffer, capacity) and _sections_fit(state, begin, end, offset, capacity):
            result = _solve(state, begin, end, offset, buffer, capacity)
        if result == FITS:
            return FITS
        _take_back(state, depth, low)
        if result == GAVE_UP:
            return GAVE_UP
    return NONE_FITS


def state_of(first: Ints, last: Ints, size: Ints, ranking: Any, nodes: int) -> State:
    """A fresh problem whose buffers have these ranks (``ranking[rank]`` is the buffer)."""
    ordered = [np.ascontiguousarray(a[ranking]) for a in (first, last, size)]
    return State.of(ordered[0], ordered[1], ordered[2], nodes)
