"""Steps all controllers take, compiled: what a command needs, when that is allowed, to issue it, to refresh.

Constraints are pushed: a command that is issued says from which cycle on each of the others is allowed where it
matters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import helper, inlined
from fettle.backends.pim.state import (
    BANKS,
    BUFFERS,
    CLOSE_ALL,
    CLOSE_ONE,
    CLOSED,
    DUE,
    GROUPS,
    INTERVAL,
    MOD,
    NOW,
    REF,
    REGISTER,
    USED,
    State,
)
from fettle.backends.pim.tables import (
    ACTIVATE,
    AFTER,
    BUFFER,
    CLOSES,
    COUNT,
    CYCLES,
    GAPS,
    GAPS_END,
    LEVEL,
    MEMBERS,
    NONE,
    OPENS,
    PRECHARGE,
    WHOLE,
    WITHIN,
    Rules,
)

_MIXED = -2
"""Not the same row in all banks."""


@inlined
def allowed(  # pragma: no cover (compiled)
    ready: NDArray[np.int64], group: NDArray[np.int64], command: int, bank: int
) -> int:
    """First cycle in which constraints in the channel, bank group and bank allow a command of a bank."""
    own = len(ready) - len(group) + bank
    return max(ready[0, command], ready[group[bank], command], ready[own, command])  # type: ignore[no-any-return]


@helper
def earliest(rules: Rules, state: State, k: int, command: int, bank: int) -> int:  # pragma: no cover (compiled)
    """First cycle after the last command in which all constraints allow another."""
    whole = rules.commands[command, WHOLE] != 0
    first = state.ready[k, 0, command] if whole else allowed(state.ready[k], state.group, command, bank)
    first = max(first, state.clocks[k, NOW] + 1)
    for w in range(len(rules.windows)):
        if rules.windows[w, MEMBERS + command] != 0:
            first = max(first, state.recent[k, w, 0] + rules.windows[w, WITHIN])
    return int(first)


@helper
def put(  # pragma: no cover (compiled)
    rules: Rules, state: State, k: int, command: int, bank: int, row: int, column: int, time: int
) -> None:
    """Issue a command."""
    clocks = state.clocks
    clocks[k, NOW] = time
    state.issued[k, command] += 1
    note(state, k, command, bank, row, column, time)
    push(rules, state, k, command, bank, time)
    for w in range(len(rules.windows)):
        if rules.windows[w, MEMBERS + command] != 0:
            last = rules.windows[w, COUNT] - 1
            for j in range(last):
                state.recent[k, w, j] = state.recent[k, w, j + 1]
            state.recent[k, w, last] = time
    if command == state.device[MOD]:
        clocks[k, REGISTER] = 1 - clocks[k, REGISTER]
    elif command == state.device[REF]:
        clocks[k, DUE] += state.device[INTERVAL]
    elif rules.commands[command, OPENS] != 0 or rules.commands[command, CLOSES] != 0:
        value = row if rules.commands[command, OPENS] != 0 else CLOSED
        buffer = rules.commands[command, BUFFER]
        whole = rules.commands[command, WHOLE] != 0
        first, last = (0, state.device[BANKS]) if whole else (bank, bank + 1)
        for b in range(first, last):
            state.rows[k, buffer, b] = value


@inlined
def push(rules: Rules, state: State, k: int, command: int, bank: int, time: int) -> None:  # pragma: no cover (compiled)
    """Say what a command holds back, and until when."""
    groups = state.device[GROUPS]
    whole = rules.commands[command, WHOLE] != 0
    for g in range(rules.commands[command, GAPS], rules.commands[command, GAPS_END]):
        level = rules.gaps[g, LEVEL]
        place = 0
        if level == 1:
            place = state.group[bank]
        elif level == 2:
            place = 1 + groups + bank
        if level == 0 or not whole:
            after = rules.gaps[g, AFTER]
            state.ready[k, place, after] = max(state.ready[k, place, after], time + rules.gaps[g, CYCLES])


@inlined
def note(  # pragma: no cover (compiled)
    state: State, k: int, command: int, bank: int, row: int, column: int, time: int
) -> None:
    """Log a command."""
    used = state.host[USED]
    if used < len(state.log):
        entry = state.log[used]
        entry[0], entry[1], entry[2], entry[3], entry[4], entry[5] = time, command, k, bank, row, column
    state.host[USED] = used + 1


@helper
def needed(rules: Rules, state: State, k: int, command: int, bank: int, row: int) -> int:  # pragma: no cover (compiled)
    """What a command needs next: its row opened or closed, or nothing more than itself."""
    precharge = rules.commands[command, PRECHARGE]
    if precharge == NONE:
        return command
    buffer = rules.commands[command, BUFFER]
    found = state.rows[k, buffer, max(bank, 0)]
    if rules.commands[command, WHOLE] != 0:
        for b in range(1, state.device[BANKS]):
            if state.rows[k, buffer, b] != found:
                found = _MIXED
    if rules.commands[command, OPENS] != 0:
        return command if found == CLOSED else precharge
    if found == CLOSED:
        return int(rules.commands[command, ACTIVATE])
    return command if found == row else precharge


@helper
def refreshing(rules: Rules, state: State, k: int) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """What a refresh that is due needs next, of which bank, and when: rows closed in the array's mode, or itself."""
    device = state.device
    step, place = device[REF], NONE
    for b in range(device[BANKS]):
        for f in range(device[BUFFERS]):
            if state.rows[k, f, b] != CLOSED:
                all_at_once = device[CLOSE_ALL] != NONE and rules.commands[device[CLOSE_ALL], BUFFER] == f
                step = device[CLOSE_ALL] if all_at_once else device[CLOSE_ONE]
                place = NONE if all_at_once else b
    time = max(state.clocks[k, DUE], earliest(rules, state, k, step, max(place, 0)))
    if state.clocks[k, REGISTER] != 0:
        return device[MOD], NONE, time
    return step, place, time


@helper
def refresh(rules: Rules, state: State, k: int, time: int, idle: int) -> None:  # pragma: no cover (compiled)
    """Refresh a channel, all of whose rows are closed, and again whenever that is due before a cycle.

    Args:
        idle: nothing else happens in the channel before this cycle.
    """
    clocks, interval = state.clocks, state.device[INTERVAL]
    put(rules, state, k, state.device[REF], NONE, NONE, NONE, time)
    again = (idle - clocks[k, DUE]) // interval
    if again < 1 or clocks[k, DUE] < earliest(rules, state, k, state.device[REF], 0):
        return
    # Only the last holds back anything that follows; a host that computes for hours must not take a loop of hours.
    if len(state.log) > 0:
        for i in range(again - 1):
            note(state, k, state.device[REF], NONE, NONE, NONE, clocks[k, DUE] + i * interval)
    state.issued[k, state.device[REF]] += again - 1
    clocks[k, DUE] += (again - 1) * interval
    put(rules, state, k, state.device[REF], NONE, NONE, NONE, clocks[k, DUE])
