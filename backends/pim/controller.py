"""Controllers that serve requests in their turn, compiled: when each command is issued.

The host sends one instruction a cycle. A channel's controller issues its requests in order, at most one command a
cycle; before a request it opens the row it needs and changes the mode if it must. A command is issued in the first
cycle that every constraint allows, so there is no loop over cycles: each issue is a maximum over the constraints
that hold the command back. How requests queue, when the end is seen and how refresh cuts in follow the controllers
of the open simulators (AiM on Ramulator 2; PIMSimulator on DRAMSim2), see docs/pim.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import entry, inlined
from fettle.backends.pim.program import FIRST_COLUMN, FIRST_ROW, HOLD, OPERATION, PLACE, TIMES, UNTOLD
from fettle.backends.pim.requests import closes_opened, next_opened, serve
from fettle.backends.pim.state import (
    ARRIVAL,
    BANKS,
    CLOSE_ONE,
    CLOSED,
    DEPTH,
    DUE,
    EAGER,
    FINISHED,
    FOREVER,
    INTERVAL,
    LAST,
    LEFT,
    MOD,
    NOW,
    OPENED,
    REF,
    REGISTER,
    RETURNED,
    SENT,
    SLACK,
    WAITING,
    State,
)
from fettle.backends.pim.steps import earliest, needed, note, push, put, refresh, refreshing
from fettle.backends.pim.tables import BLOCKING, CLOSES, LATENCY, MODE, NONE, OPENS, QUEUE, STRIDE, WHOLE, WRITES, Rules

Members = NDArray[np.bool_]


@entry
def in_turn(
    program: NDArray[np.int64], members: Members, start: int, stop: int, rules: Rules, state: State
) -> None:  # pragma: no cover (compiled)
    """Serve instructions ``start … stop``; ``members[n, k]``: channels of kind k take part in instruction n."""
    for n in range(start, stop):
        arrival = state.host[ARRIVAL]
        if program[n, OPERATION] == NONE:
            state.host[ARRIVAL] = arrival + program[n, TIMES]
            continue
        following = arrival + 1
        for k in range(members.shape[1]):
            if members[n, k]:
                following = max(following, _take(program[n], arrival, k, rules, state))
        state.host[ARRIVAL] = following


@inlined
def _take(
    instruction: NDArray[np.int64], arrival: int, k: int, rules: Rules, state: State
) -> int:  # pragma: no cover (compiled)
    """Serve one instruction in a channel; returns when the next may arrive."""
    target, clocks, device = instruction[OPERATION], state.clocks, state.device
    following = arrival
    pending = _unwanted(instruction, k, state) if device[EAGER] else 0
    i = 0
    while i < instruction[TIMES]:
        slot = clocks[k, SENT] % device[DEPTH]
        entered = max(arrival, state.turns[k, slot] + 1, clocks[k, LEFT] + 1)
        following = max(following, entered + 1)
        while True:
            step, place, time, due = _next(rules, state, k, instruction, entered, pending)
            idle = entered
            if clocks[k, WAITING + OPENED] > 0:
                opened, when = next_opened(rules, state, k)
                if when <= time or (not due and closes_opened(rules, state, k, step, place)):
                    serve(rules, state, k, OPENED, opened, when)
                    continue
                idle = min(idle, when)
            if due and step == device[REF]:
                refresh(rules, state, k, time, idle)
                continue
            # The mode changes when the first step could be taken; that step then waits for the change.
            if not due and rules.commands[target, MODE] == 1 - clocks[k, REGISTER]:
                step, place = device[MOD], NONE
            column = instruction[FIRST_COLUMN] + i if step == target else NONE
            put(rules, state, k, step, place, NONE if step == device[MOD] else instruction[FIRST_ROW], column, time)
            if rules.commands[step, CLOSES] or rules.commands[step, OPENS]:
                pending &= 0 if rules.commands[step, WHOLE] else ~(1 << place)
            if step == target and place == instruction[PLACE]:
                break
        state.turns[k, slot] = time
        clocks[k, SENT] += 1
        clocks[k, LAST] = time
        finished = time + rules.commands[target, LATENCY]
        if rules.commands[target, BLOCKING]:  # at most one read comes back a cycle, in order
            clocks[k, RETURNED] = max(clocks[k, RETURNED] + 1, finished)
            following = max(following, clocks[k, RETURNED] + 1)
        else:
            clocks[k, FINISHED] = max(clocks[k, FINISHED], finished)
        i += 1
        calm = pending == 0 and clocks[k, WAITING + OPENED] == 0
        if calm and not (rules.commands[target, BLOCKING] or rules.commands[target, CLOSES]):
            i, following = _continue(instruction, i, following, k, rules, state)
    return following


@inlined
def _next(
    rules: Rules, state: State, k: int, instruction: NDArray[np.int64], entered: int, pending: int
) -> tuple[int, int, int, bool]:  # pragma: no cover (compiled)
    """The next step towards the column of a request.

    Args:
        entered: when the request entered the queue.
        pending: banks (a bit each) whose row is to be closed when there is time.

    Returns:
        Which command, of which bank, when, and whether it is for a refresh that is due; then the request starts over.
    """
    bank = max(instruction[PLACE], 0)
    step, place = needed(rules, state, k, instruction[OPERATION], bank, instruction[FIRST_ROW]), instruction[PLACE]
    time = max(entered, earliest(rules, state, k, step, bank))
    due = state.clocks[k, DUE]
    if time >= due:
        hit = rules.commands[step, OPENS] == 0 and rules.commands[step, CLOSES] == 0
        if not (hit and time < due + state.device[SLACK] * state.device[INTERVAL]):
            step, place, time = refreshing(rules, state, k)
            return step, place, time, True
    elif (pending >> bank) & 1 == 0:
        # Rows nobody wants are closed in cycles the request leaves free.
        for b in range(state.device[BANKS]):
            if (pending >> b) & 1:
                first = earliest(rules, state, k, state.device[CLOSE_ONE], b)
                if first < time:
                    step, place, time = state.device[CLOSE_ONE], b, first
    return step, place, time, False


@inlined
def _unwanted(instruction: NDArray[np.int64], k: int, state: State) -> int:  # pragma: no cover (compiled)
    """Banks (a bit each) with an open row that no request before the next barrier wants."""
    hold = instruction[HOLD]
    if hold == UNTOLD:
        hold = -1 if instruction[PLACE] < 0 else 1 << instruction[PLACE]
    found = 0
    for b in range(state.device[BANKS]):
        if state.rows[k, 0, b] != CLOSED and (hold >> b) & 1 == 0:
            found |= 1 << b
    return found


@inlined
def _continue(
    instruction: NDArray[np.int64], i: int, following: int, k: int, rules: Rules, state: State
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Columns that follow in the open row wait for nothing but the one before.

    Returns:
        How many columns are done, and when the next instruction may arrive.
    """
    clocks, target = state.clocks, instruction[OPERATION]
    begin, time = i, clocks[k, NOW]
    while i < instruction[TIMES]:
        slot = clocks[k, SENT] % state.device[DEPTH]
        entered = max(state.host[ARRIVAL], state.turns[k, slot] + 1)
        later = max(time + rules.commands[target, STRIDE], entered)
        if later >= clocks[k, DUE]:
            break
        time = later
        following = max(following, entered + 1)
        note(state, k, target, instruction[PLACE], instruction[FIRST_ROW], instruction[FIRST_COLUMN] + i, time)
        state.turns[k, slot] = time
        clocks[k, SENT] += 1
        i += 1
    if i > begin:
        clocks[k, NOW] = clocks[k, LAST] = time
        clocks[k, FINISHED] = max(clocks[k, FINISHED], time + rules.commands[target, LATENCY])
        state.issued[k, target] += i - begin
        push(rules, state, k, target, instruction[PLACE], time)
    return i, following


@entry
def finish(rules: Rules, state: State, everything: bool) -> int:  # pragma: no cover (compiled)
    """Cycle in which the host has seen the end of what it sent.

    Args:
        everything: requests whose row has been opened for them count; else only those that were issued.
    """
    end = 0
    for k in range(len(state.clocks)):
        clocks = state.clocks[k]
        asked = max(state.host[ARRIVAL], clocks[NOW] + 1)
        opened, when = next_opened(rules, state, k)
        while when < FOREVER and (everything or when <= asked):
            serve(rules, state, k, OPENED, opened, when)
            asked = max(asked, clocks[NOW] + 1)
            opened, when = next_opened(rules, state, k)
        seen = max(asked, clocks[FINISHED]) + 1
        while when < seen:
            done = serve(rules, state, k, OPENED, opened, when)
            if done != NONE and rules.commands[done, QUEUE] == WRITES:
                seen = max(seen, clocks[FINISHED] + 1)  # reads after the question do not delay its answer
            opened, when = next_opened(rules, state, k)
        end = max(end, seen)
    return int(end)
