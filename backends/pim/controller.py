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
from fettle.backends.pim.program import UNTOLD
from fettle.backends.pim.records import Records
from fettle.backends.pim.requests import OPENED, Queues, closes_opened, next_opened, serve
from fettle.backends.pim.state import CLOSED, State
from fettle.backends.pim.steps import earliest, needed, note, push, put, refresh, refreshing
from fettle.backends.pim.tables import NONE, Rules

Members = NDArray[np.bool_]


@entry
def in_turn(  # pragma: no cover (compiled)
    program: Records,
    members: Members,
    start: int,
    stop: int,
    rules: Rules,
    state: State,
    slack: int | None,
    queues: Queues | None,
) -> None:
    """Serve instructions in their turn.

    Args:
        start, stop: which.
        members: ``[n, k]``: channels of kind k take part in instruction n.
        slack: how many refreshes may be postponed. None if there are none: what refreshes is not compiled then.
        queues: where requests wait whose row has been opened. None if none does: what serves them is not compiled then.
    """
    device, host = state.device, state.host
    for n in range(start, stop):
        instruction, arrival, target = program[n], host.arrival, program[n].operation
        if target == NONE:
            host.arrival = arrival + instruction.count
            continue
        its, following = rules.commands[target], arrival + 1
        for k in range(members.shape[1]):
            if not members[n, k]:
                continue
            channel, bank = state.channels[k], max(instruction.bank, 0)
            pending = _unwanted(instruction, k, state) if device.eager else 0
            i = 0
            while i < instruction.count:
                slot = channel.sent % device.depth
                entered = max(arrival, state.turns[k, slot] + 1, channel.left + 1)
                following = max(following, entered + 1)
                while True:
                    step, place = needed(rules, state, k, target, bank, instruction.row), instruction.bank
                    time, idle = max(entered, earliest(rules, state, k, step, bank)), entered
                    due = False  # whether the step is for a refresh; then the request starts over
                    if slack is not None and time >= channel.due:
                        hit = rules.commands[step].opens == 0 and rules.commands[step].closes == 0
                        due = not hit or time >= channel.due + slack * device.interval
                        if due:
                            step, place, time = refreshing(rules, state, k)
                    elif pending != 0 and (pending >> bank) & 1 == 0:
                        step, place, time = _before(rules, state, k, step, place, time, pending)
                    if queues is not None:
                        opened, when = next_opened(rules, state, queues, k)
                        if when <= time or (not due and closes_opened(state, queues, k, step, place)):
                            serve(rules, state, queues, k, OPENED, opened, when)
                            continue
                        idle = min(idle, when)
                    if slack is not None and due and step == device.ref:
                        refresh(rules, state, k, time, idle)
                        continue
                    # The mode changes when the first step could be taken; that step then waits for the change.
                    if not due and its.mode == 1 - channel.register:
                        step, place = device.mod, NONE
                    column = instruction.column + i if step == target else NONE
                    put(rules, state, k, step, place, NONE if step == device.mod else instruction.row, column, time)
                    if rules.commands[step].closes or rules.commands[step].opens:
                        pending &= 0 if rules.commands[step].whole else ~(1 << place)
                    if step == target and place == instruction.bank:
                        break
                state.turns[k, slot] = time
                channel.sent += 1
                channel.last = time
                finished = time + its.latency
                if its.blocking:  # at most one read comes back a cycle, in order
                    channel.returned = max(channel.returned + 1, finished)
                    following = max(following, channel.returned + 1)
                else:
                    channel.finished = max(channel.finished, finished)
                i += 1
                calm = pending == 0
                if queues is not None:
                    calm &= queues.waiting[k, OPENED] == 0
                if not calm or its.blocking or its.closes:
                    continue
                i, time, following = _rest_of_row(instruction, its, i, k, arrival, time, following, rules, state)
        host.arrival = following


@inlined
def _rest_of_row(
    instruction: np.record,
    its: np.record,
    begin: int,
    k: int,
    arrival: int,
    time: int,
    following: int,
    rules: Rules,
    state: State,
) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """Columns from ``begin`` on, which follow one at ``time`` in the open row, and wait for nothing but the one before.

    Returns:
        The first column that is left, since a refresh is due before it; when the one before it was issued; and when
        the next instruction may arrive.
    """
    channel, target, i = state.channels[k], instruction.operation, begin
    while i < instruction.count:
        slot = channel.sent % state.device.depth
        entered = max(arrival, state.turns[k, slot] + 1)
        later = max(time + its.stride, entered)
        if later >= channel.due:
            break
        time = later
        following = max(following, entered + 1)
        note(state, k, target, instruction.bank, instruction.row, instruction.column + i, time)
        state.turns[k, slot] = time
        channel.sent += 1
        i += 1
    if i > begin:
        channel.now = channel.last = time
        channel.finished = max(channel.finished, time + its.latency)
        state.issued[k, target] += i - begin
        push(rules, state, k, target, instruction.bank, time)
    return i, time, following


@inlined
def _before(
    rules: Rules, state: State, k: int, step: int, place: int, time: int, pending: int
) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """A step, of a bank, at a time; or before it, in a cycle it leaves free, the closing of a row that nobody wants.

    Args:
        pending: banks (a bit each) with such a row.
    """
    for b in range(state.device.banks):
        if (pending >> b) & 1:
            first = earliest(rules, state, k, state.device.close_one, b)
            if first < time:
                step, place, time = state.device.close_one, b, first
    return step, place, time


@inlined
def _unwanted(instruction: np.record, k: int, state: State) -> int:  # pragma: no cover (compiled)
    """Banks (a bit each) with an open row that no request before the next barrier wants."""
    hold = instruction.hold
    if hold == UNTOLD:
        hold = -1 if instruction.bank < 0 else 1 << instruction.bank
    found = 0
    for b in range(state.device.banks):
        if state.rows[k, 0, b] != CLOSED and (hold >> b) & 1 == 0:
            found |= 1 << b
    return found
