"""A controller that reorders reads and writes of single banks as the AiM simulator's does (Ramulator 2's FR-FCFS).

Of the requests in its queue it serves the oldest whose next step is ready, be that opening or closing a row or the
column itself. Once its row is opened a request leaves the queue and goes first whenever it is ready. Reads and writes
have a queue each; many writes, or no reads, turn it to writes. A read that finds writes waiting is answered from them:
the simulator compares addresses that its traces do not set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import entry, helper
from fettle.backends.pim.controller import Members
from fettle.backends.pim.program import OPERATION, TIMES
from fettle.backends.pim.requests import closes_opened, enqueue, next_opened, serve
from fettle.backends.pim.state import (
    ARRIVAL,
    BANK,
    COMMAND,
    DEPTH,
    DUE,
    FINISHED,
    FOREVER,
    INTERVAL,
    LAST,
    NOW,
    OPENED,
    REF,
    RETURNED,
    ROW,
    SEEN,
    SLACK,
    WAITING,
    WRITING,
    State,
)
from fettle.backends.pim.steps import earliest, needed, put, refresh, refreshing
from fettle.backends.pim.tables import NONE, QUEUE, READS, WRITES, Rules

_MANY, _FEW = 0.8, 0.2
"""Parts of a queue of writes: more than the first turn to them, fewer than the second turn back to reads."""


@entry
def send(
    program: NDArray[np.int64], members: Members, start: int, stop: int, rules: Rules, state: State
) -> None:  # pragma: no cover (compiled)
    """Queue instructions ``start … stop``, all of commands that may be reordered."""
    for n in range(start, stop):
        following = state.host[ARRIVAL] + 1
        for k in range(members.shape[1]):
            if members[n, k]:
                following = max(following, _queue(program[n], n, k, rules, state))
        state.host[ARRIVAL] = following


@entry
def drain(kinds: NDArray[np.bool_], rules: Rules, state: State) -> None:  # pragma: no cover (compiled)
    """Serve until no request waits for its row, in channels of these kinds."""
    for k in range(len(kinds)):
        while kinds[k] and state.clocks[k, WAITING + READS] + state.clocks[k, WAITING + WRITES] > 0:
            _step(rules, state, k, FOREVER)


@helper
def _queue(
    instruction: NDArray[np.int64], number: int, k: int, rules: Rules, state: State
) -> int:  # pragma: no cover (compiled)
    """Queue one instruction in a channel; returns when the next may arrive."""
    clocks = state.clocks
    queue = rules.commands[instruction[OPERATION], QUEUE]
    following = state.host[ARRIVAL]
    for i in range(instruction[TIMES]):
        entered = max(state.host[ARRIVAL], clocks[k, LAST] + 1)
        while _step(rules, state, k, entered - 1):
            pass
        if queue == READS and clocks[k, WAITING + WRITES] > 0:
            clocks[k, RETURNED] = max(clocks[k, RETURNED] + 1, entered)
            clocks[k, FINISHED] = max(clocks[k, FINISHED], clocks[k, RETURNED])
            following = max(following, entered + 1)
            continue
        while clocks[k, WAITING + queue] == state.device[DEPTH]:
            _step(rules, state, k, FOREVER)
            entered = clocks[k, NOW] + 1
        enqueue(state, k, queue, instruction, i, number)
        following = max(following, entered + 1)
    return int(following)


@helper
def _step(rules: Rules, state: State, k: int, until: int) -> bool:  # pragma: no cover (compiled)
    """Issue the next command, unless that is after a cycle; says whether it was issued."""
    clocks, device = state.clocks, state.device
    first = max(clocks[k, NOW], clocks[k, SEEN]) + 1
    if first > until:
        return False
    opened, when = next_opened(rules, state, k)
    if when > first and first < clocks[k, DUE]:
        _turn(state, k)
    queue = WRITES if clocks[k, WRITING] else READS
    chosen, time = _oldest_ready(rules, state, k, queue, first)
    step = NONE if chosen == NONE else state.requests[k, queue, chosen, COMMAND]
    column = step != NONE and step == needed(
        rules, state, k, step, state.requests[k, queue, chosen, BANK], state.requests[k, queue, chosen, ROW]
    )
    waits = clocks[k, WAITING + READS] + clocks[k, WAITING + WRITES] > 0
    due = time >= clocks[k, DUE] + column * device[SLACK] * device[INTERVAL]
    step, place = NONE, NONE
    if due:
        step, place, time = refreshing(rules, state, k)
        time = max(time, first)
    if min(time, when) > until or min(time, when) == FOREVER:
        if until < FOREVER:
            clocks[k, SEEN] = until
        return False
    if when <= time:
        serve(rules, state, k, OPENED, opened, when)
    elif due and step == device[REF]:
        refresh(rules, state, k, time, time if waits else min(until, when))
    elif due:
        put(rules, state, k, step, place, NONE, NONE, time)
    else:
        serve(rules, state, k, queue, chosen, time)
    return True


@helper
def _turn(state: State, k: int) -> None:  # pragma: no cover (compiled)
    """Whether reads or writes are served, by how many wait."""
    clocks, depth = state.clocks, state.device[DEPTH]
    reads, writes = clocks[k, WAITING + READS], clocks[k, WAITING + WRITES]
    if clocks[k, WRITING] == 0:
        clocks[k, WRITING] = writes > _MANY * depth or reads == 0
    elif writes < _FEW * depth and reads > 0:
        clocks[k, WRITING] = 0


@helper
def _oldest_ready(
    rules: Rules, state: State, k: int, queue: int, first: int
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Which request is served next and when, from a cycle on; FOREVER if none can be.

    A request goes if no older one is ready. One that would close the row of an opened request holds back younger ones.
    """
    chosen, when, bound = NONE, FOREVER, FOREVER
    bank, row = NONE, NONE
    for i in range(state.clocks[k, WAITING + queue]):
        request = state.requests[k, queue, i]
        if request[BANK] == bank and request[ROW] == row:  # not ready before the one in front of it
            continue
        bank, row = request[BANK], request[ROW]
        step = needed(rules, state, k, request[COMMAND], bank, row)
        time = max(first, earliest(rules, state, k, step, bank))
        if time < bound:
            bound = time
            if not closes_opened(rules, state, k, step, bank):
                chosen, when = i, time
            if time == first:
                break
    return chosen, when
