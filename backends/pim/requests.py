"""Requests that wait in queues, compiled: those a controller may reorder, and those whose row has been opened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import helper, inlined
from fettle.backends.pim.program import FIRST_COLUMN, FIRST_ROW, OPERATION, PLACE
from fettle.backends.pim.state import (
    BANK,
    CLOSE_ONE,
    COLUMN,
    COMMAND,
    DEPTH,
    FINISHED,
    FOREVER,
    LEFT,
    MOD,
    NUMBER,
    OPENED,
    REGISTER,
    RETURNED,
    ROW,
    WAITING,
    State,
)
from fettle.backends.pim.steps import earliest, needed, put
from fettle.backends.pim.tables import ACTIVATE, LATENCY, MODE, NONE, QUEUE, READS, Rules


@inlined
def enqueue(
    state: State, k: int, queue: int, instruction: NDArray[np.int64], column: int, number: int
) -> None:  # pragma: no cover (compiled)
    """Append a request to a queue: an instruction's column, counted from its first."""
    request = state.requests[k, queue, state.clocks[k, WAITING + queue]]
    request[COMMAND], request[BANK], request[NUMBER] = instruction[OPERATION], instruction[PLACE], number
    request[ROW], request[COLUMN] = instruction[FIRST_ROW], instruction[FIRST_COLUMN] + column
    state.clocks[k, WAITING + queue] += 1


@helper
def next_opened(rules: Rules, state: State, k: int) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Which of the requests that have had their row opened goes on first, and when; FOREVER if there is none."""
    chosen, when = NONE, FOREVER
    for i in range(state.clocks[k, WAITING + OPENED]):
        request = state.requests[k, OPENED, i]
        step = needed(rules, state, k, request[COMMAND], request[BANK], request[ROW])
        time = earliest(rules, state, k, step, request[BANK])
        if time < when or (time == when and request[NUMBER] < state.requests[k, OPENED, chosen, NUMBER]):
            chosen, when = i, time
    return chosen, when


@helper
def closes_opened(rules: Rules, state: State, k: int, step: int, bank: int) -> bool:  # pragma: no cover (compiled)
    """Whether closing a bank would take away the row that a request has had opened for it."""
    if step != state.device[CLOSE_ONE]:
        return False
    found = False
    for i in range(state.clocks[k, WAITING + OPENED]):
        found |= state.requests[k, OPENED, i, BANK] == bank
    return found


@helper
def serve(rules: Rules, state: State, k: int, queue: int, i: int, time: int) -> int:  # pragma: no cover (compiled)
    """Take the next step of a waiting request.

    Returns:
        The request's command if the step was that, else NONE.
    """
    clocks, requests = state.clocks, state.requests
    command, bank, row = requests[k, queue, i, COMMAND], requests[k, queue, i, BANK], requests[k, queue, i, ROW]
    step = needed(rules, state, k, command, bank, row)
    column = requests[k, queue, i, COLUMN] if step == command else NONE
    if rules.commands[command, MODE] == 1 - clocks[k, REGISTER]:
        put(rules, state, k, state.device[MOD], NONE, NONE, NONE, time)
        return NONE
    put(rules, state, k, step, bank, row, column, time)
    opened = step == rules.commands[command, ACTIVATE] and clocks[k, WAITING + OPENED] < state.device[DEPTH]
    if step == command:
        finished = time + rules.commands[command, LATENCY]
        if rules.commands[command, QUEUE] == READS:  # at most one comes back a cycle
            clocks[k, RETURNED] = finished = max(clocks[k, RETURNED] + 1, finished)
        clocks[k, FINISHED] = max(clocks[k, FINISHED], finished)
    elif not opened or queue == OPENED:
        return NONE
    if opened:
        for f in range(NUMBER + 1):
            requests[k, OPENED, clocks[k, WAITING + OPENED], f] = requests[k, queue, i, f]
        clocks[k, WAITING + OPENED] += 1
    remove(state, k, queue, i)
    if queue != OPENED:
        clocks[k, LEFT] = time
    return command if step == command else NONE


@inlined
def remove(state: State, k: int, queue: int, i: int) -> None:  # pragma: no cover (compiled)
    """Take a request from its queue."""
    state.clocks[k, WAITING + queue] -= 1
    for j in range(i, state.clocks[k, WAITING + queue]):
        for f in range(NUMBER + 1):
            state.requests[k, queue, j, f] = state.requests[k, queue, j + 1, f]
