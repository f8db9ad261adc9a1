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
from fettle.backends.pim.records import Records
from fettle.backends.pim.requests import OPENED, Queues, closes_opened, enqueue, next_opened, serve
from fettle.backends.pim.state import FOREVER, State
from fettle.backends.pim.steps import earliest, needed, put, refresh, refreshing
from fettle.backends.pim.tables import NONE, READS, WRITES, Rules

_MANY, _FEW = 0.8, 0.2
"""Parts of a queue of writes: more than the first turn to them, fewer than the second turn back to reads."""


@entry
def send(
    program: Records,
    members: Members,
    start: int,
    stop: int,
    rules: Rules,
    state: State,
    slack: int | None,
    queues: Queues,
) -> None:  # pragma: no cover (compiled)
    """Queue instructions ``start … stop``, all of commands that may be reordered; ``slack`` as of :func:`in_turn`."""
    for n in range(start, stop):
        following = state.host.arrival + 1
        for k in range(members.shape[1]):
            if members[n, k]:
                following = max(following, _queue(program[n], n, k, rules, state, slack, queues))
        state.host.arrival = following


@entry
def drain(
    kinds: NDArray[np.bool_], rules: Rules, state: State, slack: int | None, queues: Queues
) -> None:  # pragma: no cover (compiled)
    """Serve until no request waits for its row, in channels of these kinds."""
    for k in range(len(kinds)):
        while kinds[k] and queues.waiting[k, READS] + queues.waiting[k, WRITES] > 0:
            _step(rules, state, slack, queues, k, FOREVER)


@helper
def _queue(
    instruction: np.record, number: int, k: int, rules: Rules, state: State, slack: int | None, queues: Queues
) -> int:  # pragma: no cover (compiled)
    """Queue one instruction in a channel; returns when the next may arrive."""
    channel = state.channels[k]
    queue = rules.commands[instruction.operation].queue
    following = state.host.arrival
    for i in range(instruction.count):
        entered = max(state.host.arrival, channel.last + 1)
        while _step(rules, state, slack, queues, k, entered - 1):
            pass
        if queue == READS and queues.waiting[k, WRITES] > 0:
            channel.returned = max(channel.returned + 1, entered)
            channel.finished = max(channel.finished, channel.returned)
            following = max(following, entered + 1)
            continue
        while queues.waiting[k, queue] == state.device.depth:
            _step(rules, state, slack, queues, k, FOREVER)
            entered = channel.now + 1
        enqueue(queues, k, queue, instruction, i, number)
        following = max(following, entered + 1)
    return following  # type: ignore[no-any-return]


@helper
def _step(
    rules: Rules, state: State, slack: int | None, queues: Queues, k: int, until: int
) -> bool:  # pragma: no cover (compiled)
    """Issue the next command, unless that is after a cycle; says whether it was issued."""
    channel, device = state.channels[k], state.device
    first = max(channel.now, channel.seen) + 1
    if first > until:
        return False
    opened, when = next_opened(rules, state, queues, k)
    if when > first and first < channel.due:
        _turn(state, queues, k)
    queue = WRITES if channel.writing else READS
    chosen, time = _oldest_ready(rules, state, queues, k, queue, first)
    step = NONE if chosen == NONE else queues.requests[k, queue, chosen].command
    column = step != NONE and step == needed(
        rules, state, k, step, queues.requests[k, queue, chosen].bank, queues.requests[k, queue, chosen].row
    )
    waits = queues.waiting[k, READS] + queues.waiting[k, WRITES] > 0
    step, place, due = NONE, NONE, False
    if slack is not None and time >= channel.due + column * slack * device.interval:
        step, place, time = refreshing(rules, state, k)
        time, due = max(time, first), True
    if min(time, when) > until or min(time, when) == FOREVER:
        if until < FOREVER:
            channel.seen = until
        return False
    if when <= time:
        serve(rules, state, queues, k, OPENED, opened, when)
    elif slack is not None and due and step == device.ref:
        refresh(rules, state, k, time, time if waits else min(until, when))
    elif due:
        put(rules, state, k, step, place, NONE, NONE, time)
    else:
        serve(rules, state, queues, k, queue, chosen, time)
    return True


@helper
def _turn(state: State, queues: Queues, k: int) -> None:  # pragma: no cover (compiled)
    """Whether reads or writes are served, by how many wait."""
    channel, depth = state.channels[k], state.device.depth
    reads, writes = queues.waiting[k, READS], queues.waiting[k, WRITES]
    if channel.writing == 0:
        channel.writing = writes > _MANY * depth or reads == 0
    elif writes < _FEW * depth and reads > 0:
        channel.writing = 0


@helper
def _oldest_ready(
    rules: Rules, state: State, queues: Queues, k: int, queue: int, first: int
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Which request is served next and when, from a cycle on; FOREVER if none can be.

    A request goes if no older one is ready. One that would close the row of an opened request holds back younger ones.
    """
    chosen, when, bound = NONE, FOREVER, FOREVER
    bank, row = NONE, NONE
    for i in range(queues.waiting[k, queue]):
        request = queues.requests[k, queue, i]
        if request.bank == bank and request.row == row:  # not ready before the one in front of it
            continue
        bank, row = request.bank, request.row
        step = needed(rules, state, k, request.command, bank, row)
        time = max(first, earliest(rules, state, k, step, bank))
        if time < bound:
            bound = time
            if not closes_opened(state, queues, k, step, bank):
                chosen, when = i, time
            if time == first:
                break
    return chosen, when
