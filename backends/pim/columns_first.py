"""A controller that reorders reads and writes of single banks as PIMSimulator's does (DRAMSim2).

One request a cycle enters the queue. A column whose row is open goes first, the oldest of them; else the oldest request
of a closed bank has its row opened; else a row that no request in the queue wants is closed, banks taking turns. A
refresh that is due closes rows before anything else is done in a cycle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.compiling import entry, helper, inlined
from fettle.backends.pim.controller import Members
from fettle.backends.pim.records import Records
from fettle.backends.pim.requests import Queues, enqueue, remove
from fettle.backends.pim.state import CLOSED, FOREVER, State
from fettle.backends.pim.steps import allowed, earliest, put, refresh
from fettle.backends.pim.tables import NONE, READS, Rules

QUEUE_OF_ALL = READS
"""Reads and writes share a queue."""


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
                following = max(following, _queue(program[n], k, rules, state, slack, queues))
        state.host.arrival = following


@entry
def drain(
    kinds: NDArray[np.bool_], rules: Rules, state: State, slack: int | None, queues: Queues
) -> None:  # pragma: no cover (compiled)
    """Serve all requests of channels of these kinds."""
    for k in range(len(kinds)):
        while kinds[k] and queues.waiting[k, QUEUE_OF_ALL] > 0:
            _step(rules, state, slack, queues, k, FOREVER)


@inlined
def _queue(
    instruction: np.record, k: int, rules: Rules, state: State, slack: int | None, queues: Queues
) -> int:  # pragma: no cover (compiled)
    """Queue one instruction in a channel; returns when the next may arrive."""
    channel = state.channels[k]
    entered = state.host.arrival
    for i in range(instruction.count):
        while queues.waiting[k, QUEUE_OF_ALL] == state.device.depth:
            _step(rules, state, slack, queues, k, FOREVER)
            entered = max(entered, channel.now + 1)
        while _step(rules, state, slack, queues, k, entered - 1):
            pass
        enqueue(queues, k, QUEUE_OF_ALL, instruction, i, 0)
        entered += 1
    return entered  # type: ignore[no-any-return]


@helper
def _step(
    rules: Rules, state: State, slack: int | None, queues: Queues, k: int, until: int
) -> bool:  # pragma: no cover (compiled)
    """Issue the next command, unless that is after a cycle; says whether it was issued."""
    channel, device = state.channels[k], state.device
    first = max(channel.now, channel.seen) + 1
    if first > until:
        return False
    column, activate, time, opening, wanted = _choose(rules, state, queues, k, first)
    step, (bank, closing) = NONE, _unwanted(rules, state, k, first, wanted)
    when = min(time, opening, closing)
    if slack is not None and when >= channel.due + (slack * device.interval if when == time else 0):
        step, bank, when = _refresh(rules, state, k, first, time)
    if when > until or when == FOREVER:
        if until < FOREVER:
            channel.seen = until
        return False
    if slack is not None and step == device.ref:
        refresh(rules, state, k, when, min(until, opening))
    elif step != NONE:
        put(rules, state, k, step, bank, NONE, NONE, when)
    elif when == time:
        request = queues.requests[k, QUEUE_OF_ALL, column]
        put(rules, state, k, request.command, request.bank, request.row, request.column, when)
        channel.finished = max(channel.finished, when + rules.commands[request.command].latency)
        remove(queues, k, QUEUE_OF_ALL, column)
    elif when == opening:
        request = queues.requests[k, QUEUE_OF_ALL, activate]
        put(rules, state, k, rules.commands[request.command].activate, request.bank, request.row, NONE, when)
    else:
        channel.turn = bank
        put(rules, state, k, device.close_one, bank, NONE, NONE, when)
    return True


@inlined
def _unwanted(
    rules: Rules, state: State, k: int, first: int, wanted: int
) -> tuple[int, int]:  # pragma: no cover (compiled)
    """Which bank's row is closed next because no request wants it, and when; FOREVER if there is none."""
    banks, close = state.device.banks, state.device.close_one
    chosen, when = NONE, FOREVER
    bank = state.channels[k].turn - 1
    for _ in range(banks):
        bank = bank + 1 if bank + 1 < banks else 0
        if state.rows[k, 0, bank] != CLOSED and (wanted >> bank) & 1 == 0:
            cycle = max(first, allowed(state, k, close, bank))
            if cycle < when:
                chosen, when = bank, cycle
    return chosen, when


@inlined
def _choose(
    rules: Rules, state: State, queues: Queues, k: int, first: int
) -> tuple[int, int, int, int, int]:  # pragma: no cover (compiled)
    """What requests can do from a cycle on.

    Returns:
        The request whose column is next, the one whose row is opened next, when each can be (FOREVER: never), and the
        banks (a bit each) whose open row is wanted.
    """
    column, activate, time, opening = NONE, NONE, FOREVER, FOREVER
    wanted, closed, found = 0, 0, 0  # banks; in ``found`` writes are a number of banks further on
    banks = state.device.banks
    requests, rows, ready = queues.requests[k, QUEUE_OF_ALL], state.rows[k, 0], state.ready[k]
    soonest = FOREVER  # for a column of any bank
    for c in range(len(rules.commands)):
        if rules.commands[c].queue != 0:
            soonest = min(soonest, max(first, ready[0, c]))
    everyone = (1 << banks) - 1
    for i in range(queues.waiting[k, QUEUE_OF_ALL]):
        if time <= soonest and wanted | closed == everyone:  # what comes later changes nothing
            break
        request = requests[i]
        command, bank = request.command, request.bank
        if rows[bank] == CLOSED:
            if (closed >> bank) & 1 == 0:
                closed |= 1 << bank
                cycle = max(first, earliest(rules, state, k, rules.commands[command].activate, bank))
                if cycle < opening:
                    activate, opening = i, cycle
        elif rows[bank] == request.row:
            wanted |= 1 << bank
            reads = rules.commands[command].queue == READS
            here, there = (bank, banks + bank) if reads else (banks + bank, bank)
            if (
                time > soonest
                and (found >> here) & 1 == 0
                and ((found >> there) & 1 == 0 or not _follows(queues, k, i))
            ):
                found |= 1 << here
                cycle = max(first, allowed(state, k, command, bank))
                if cycle < time:
                    column, time = i, cycle
    return column, activate, time, opening, wanted


@helper
def _follows(queues: Queues, k: int, i: int) -> bool:  # pragma: no cover (compiled)
    """Whether a request must wait for an earlier one of the same column."""
    requests = queues.requests[k, QUEUE_OF_ALL]
    request = requests[i]
    for j in range(i):
        other = requests[j]
        if other.bank == request.bank and other.row == request.row and other.column == request.column:
            return True
    return False


@helper
def _refresh(
    rules: Rules, state: State, k: int, first: int, when: int
) -> tuple[int, int, int]:  # pragma: no cover (compiled)
    """What is done next where a refresh is due: a row is closed, or all are refreshed; or a column is read or written
    ``when`` that is sooner. No row is opened: PIMSimulator opens them, and then may never find all of them closed."""
    device, due = state.device, max(first, state.channels[k].due)
    step, bank, closed = NONE, NONE, True
    for b in range(device.banks):
        if state.rows[k, 0, b] != CLOSED:
            cycle = max(due, earliest(rules, state, k, device.close_one, b))
            if cycle < when or (cycle == when and step == NONE):
                step, bank, when = device.close_one, b, cycle
            closed = False
    if closed:
        return device.ref, NONE, max(due, earliest(rules, state, k, device.ref, NONE))
    return step, bank, when
