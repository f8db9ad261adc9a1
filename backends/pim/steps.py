"""Steps all controllers take, compiled: what a command needs, when that is allowed, to issue it, to refresh.

Constraints are pushed: a command that is issued says from which cycle on each of the others is allowed where it
matters.
"""

from __future__ import annotations

from fettle.backends.pim.compiling import helper, inlined
from fettle.backends.pim.state import CLOSED, State
from fettle.backends.pim.tables import NONE, Rules

_MIXED = -2
"""Not the same row in all banks."""


@inlined
def allowed(state: State, k: int, command: int, bank: int) -> int:  # pragma: no cover (compiled)
    """First cycle in which constraints in the channel, bank group and bank allow a command of a bank."""
    ready, own = state.ready, 1 + state.device.groups + bank
    shared = max(ready[k, 0, command], ready[k, state.group[bank], command])
    return max(shared, ready[k, own, command])  # type: ignore[no-any-return]


@helper
def earliest(rules: Rules, state: State, k: int, command: int, bank: int) -> int:  # pragma: no cover (compiled)
    """First cycle after the last command in which all constraints allow another."""
    its = rules.commands[command]
    first = max(state.ready[k, 0, command], state.channels[k].now + 1)
    if its.whole == 0:
        first = max(first, allowed(state, k, command, bank))
    for w in range(len(rules.windows)):
        if (its.windows >> w) & 1:
            first = max(first, state.recent[k, w, 0] + rules.windows[w].within)
    return first  # type: ignore[no-any-return]


@helper
def put(  # pragma: no cover (compiled)
    rules: Rules, state: State, k: int, command: int, bank: int, row: int, column: int, time: int
) -> None:
    """Issue a command."""
    channel, device, its = state.channels[k], state.device, rules.commands[command]
    channel.now = time
    state.issued[k, command] += 1
    note(state, k, command, bank, row, column, time)
    push(rules, state, k, command, bank, time)
    for w in range(len(rules.windows)):
        if (its.windows >> w) & 1:
            last = rules.windows[w].count - 1
            for j in range(last):
                state.recent[k, w, j] = state.recent[k, w, j + 1]
            state.recent[k, w, last] = time
    if command == device.mod:
        channel.register = 1 - channel.register
    elif command == device.ref:
        channel.due += device.interval
    elif its.opens or its.closes:
        value = row if its.opens else CLOSED
        for b in range(device.banks):
            if its.whole or b == bank:
                state.rows[k, its.buffer, b] = value


@inlined
def push(rules: Rules, state: State, k: int, command: int, bank: int, time: int) -> None:  # pragma: no cover (compiled)
    """Say what a command holds back, and until when."""
    its, ready = rules.commands[command], state.ready
    for g in range(its.gaps, its.gaps_end):
        gap = rules.gaps[g]
        place = 0
        if gap.level == 1:
            place = state.group[bank]
        elif gap.level == 2:
            place = 1 + state.device.groups + bank
        if gap.level == 0 or not its.whole:
            ready[k, place, gap.after] = max(ready[k, place, gap.after], time + gap.cycles)


@inlined
def note(  # pragma: no cover (compiled)
    state: State, k: int, command: int, bank: int, row: int, column: int, time: int
) -> None:
    """Log a command."""
    used = state.host.used
    if used < len(state.log):
        issue = state.log[used]
        issue.time = time
        issue.command = command
        issue.kind = k
        issue.bank = bank
        issue.row = row
        issue.column = column
    state.host.used = used + 1


@helper
def needed(rules: Rules, state: State, k: int, command: int, bank: int, row: int) -> int:  # pragma: no cover (compiled)
    """What a command needs next: its row opened or closed, or nothing more than itself."""
    its = rules.commands[command]
    if its.precharge == NONE:
        return command
    found = state.rows[k, its.buffer, max(bank, 0)]
    if its.whole:
        for b in range(1, state.device.banks):
            if state.rows[k, its.buffer, b] != found:
                found = _MIXED
    if its.opens:
        return command if found == CLOSED else its.precharge
    if found == CLOSED:
        return its.activate  # type: ignore[no-any-return]
    return command if found == row else its.precharge


@helper
def refreshing(rules: Rules, state: State, k: int) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """What a refresh that is due needs next, of which bank, and when: rows closed in the array's mode, or itself."""
    device, channel = state.device, state.channels[k]
    step, place = device.ref, NONE
    for b in range(device.banks):
        for f in range(device.buffers):
            if state.rows[k, f, b] != CLOSED:
                all_at_once = device.close_all != NONE and rules.commands[device.close_all].buffer == f
                step = device.close_all if all_at_once else device.close_one
                place = NONE if all_at_once else b
    time = max(channel.due, earliest(rules, state, k, step, max(place, 0)))
    if channel.register:
        return device.mod, NONE, time
    return step, place, time


@helper
def refresh(rules: Rules, state: State, k: int, time: int, idle: int) -> None:  # pragma: no cover (compiled)
    """Refresh a channel, all of whose rows are closed, and again whenever that is due before a cycle.

    Args:
        idle: nothing else happens in the channel before this cycle.
    """
    channel, ref, interval = state.channels[k], state.device.ref, state.device.interval
    while True:
        put(rules, state, k, ref, NONE, NONE, NONE, time)
        again = (idle - channel.due) // interval
        if again < 1 or channel.due < earliest(rules, state, k, ref, NONE):
            return
        # Only the last holds back anything that follows; a host that computes for hours must not take a loop of hours.
        if len(state.log) > 0:
            for i in range(again - 1):
                note(state, k, ref, NONE, NONE, NONE, channel.due + i * interval)
        state.issued[k, ref] += again - 1
        channel.due += (again - 1) * interval
        time = channel.due
