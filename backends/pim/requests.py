"""Requests that wait in queues, compiled: those a controller may reorder, and those whose row has been opened."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import entry, helper, inlined
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.records import Records, record
from fettle.backends.pim.state import FOREVER, State
from fettle.backends.pim.steps import earliest, needed, put
from fettle.backends.pim.tables import NONE, READS, WRITES, Rules

OPENED = 0
"""The queue of requests whose row has been opened for them; 1 and 2 are ``READS`` and ``WRITES``."""

REQUEST = record("command", "bank", "row", "column", "number")
"""A request that may be reordered; lower numbers came earlier."""


class Queues(NamedTuple):
    """Attributes:
    waiting: ``[kinds, 3]``: how many requests.
    requests: ``[kinds, 3, depth]`` of ``REQUEST``, the earliest first.
    """

    waiting: NDArray[np.int64]
    requests: Records

    @classmethod
    def start(cls, organisation: Organisation, kinds: int) -> Queues:
        """Empty ones."""
        return cls(np.zeros((kinds, 3), np.int64), np.zeros((kinds, 3, organisation.queue), REQUEST))

    def opened(self) -> Queues | None:
        """These, if requests whose row has been opened wait in any."""
        return self if self.waiting[:, OPENED].any() else None


@inlined
def enqueue(
    queues: Queues, k: int, queue: int, instruction: np.record, column: int, number: int
) -> None:  # pragma: no cover (compiled)
    """Append a request to a queue: an instruction's column, counted from its first."""
    request = queues.requests[k, queue, queues.waiting[k, queue]]
    request.command = instruction.operation
    request.bank = instruction.bank
    request.row = instruction.row
    request.column = instruction.column + column
    request.number = number
    queues.waiting[k, queue] += 1


@helper
def next_opened(rules: Rules, state: State, queues: Queues, k: int) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Which of the requests that have had their row opened goes on first, and when; FOREVER if there is none."""
    chosen, when = NONE, FOREVER
    for i in range(queues.waiting[k, OPENED]):
        request = queues.requests[k, OPENED, i]
        step = needed(rules, state, k, request.command, request.bank, request.row)
        time = earliest(rules, state, k, step, request.bank)
        if time < when or (time == when and request.number < queues.requests[k, OPENED, chosen].number):
            chosen, when = i, time
    return chosen, when


@helper
def closes_opened(state: State, queues: Queues, k: int, step: int, bank: int) -> bool:  # pragma: no cover (compiled)
    """Whether closing a bank would take away the row that a request has had opened for it."""
    if step != state.device.close_one:
        return False
    found = False
    for i in range(queues.waiting[k, OPENED]):
        found |= queues.requests[k, OPENED, i].bank == bank
    return found


@helper
def serve(
    rules: Rules, state: State, queues: Queues, k: int, queue: int, i: int, time: int
) -> int:  # pragma: no cover (compiled)
    """Take the next step of a waiting request.

    Returns:
        The request's command if the step was that, else NONE.
    """
    channel, request = state.channels[k], queues.requests[k, queue, i]
    command, bank, row = request.command, request.bank, request.row
    step = needed(rules, state, k, command, bank, row)
    column = request.column if step == command else NONE
    if rules.commands[command].mode == 1 - channel.register:
        put(rules, state, k, state.device.mod, NONE, NONE, NONE, time)
        return NONE
    put(rules, state, k, step, bank, row, column, time)
    opened = step == rules.commands[command].activate and queues.waiting[k, OPENED] < state.device.depth
    if step == command:
        finished = time + rules.commands[command].latency
        if rules.commands[command].queue == READS:  # at most one comes back a cycle
            channel.returned = finished = max(channel.returned + 1, finished)
        channel.finished = max(channel.finished, finished)
    elif not opened or queue == OPENED:
        return NONE
    if opened:
        queues.requests[k, OPENED, queues.waiting[k, OPENED]] = request
        queues.waiting[k, OPENED] += 1
    remove(queues, k, queue, i)
    if queue != OPENED:
        channel.left = time
    return command if step == command else NONE


@inlined
def remove(queues: Queues, k: int, queue: int, i: int) -> None:  # pragma: no cover (compiled)
    """Take a request from its queue."""
    queues.waiting[k, queue] -= 1
    for j in range(i, queues.waiting[k, queue]):
        queues.requests[k, queue, j] = queues.requests[k, queue, j + 1]


@entry
def finish(rules: Rules, state: State, queues: Queues, everything: bool) -> int:  # pragma: no cover (compiled)
    """Cycle in which the host has seen the end of what it sent, where requests wait whose row has been opened.

    Args:
        everything: these count; else only those that were issued.
    """
    end = 0
    for k in range(len(state.channels)):
        channel = state.channels[k]
        asked = max(state.host.arrival, channel.now + 1)
        opened, when = next_opened(rules, state, queues, k)
        while when < FOREVER and (everything or when <= asked):
            serve(rules, state, queues, k, OPENED, opened, when)
            asked = max(asked, channel.now + 1)
            opened, when = next_opened(rules, state, queues, k)
        seen = max(asked, channel.finished) + 1
        while when < seen:
            done = serve(rules, state, queues, k, OPENED, opened, when)
            if done != NONE and rules.commands[done].queue == WRITES:
                seen = max(seen, channel.finished + 1)  # reads after the question do not delay its answer
            opened, when = next_opened(rules, state, queues, k)
        end = max(end, seen)
    return end
