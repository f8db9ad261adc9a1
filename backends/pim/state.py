"""What the controllers of all channels know at a time, and the steps all of them take: arrays and compiled functions.

A channel stands for its kind, all channels that take part in the same instructions. Constraints are pushed: a command
that is issued says from which cycle on each of the others is allowed where it matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.tables import (
    ACTIVATE,
    AFTER,
    BUFFER,
    CLOSES,
    COUNT,
    CYCLES,
    GAPS,
    GAPS_END,
    LATENCY,
    LEVEL,
    MEMBERS,
    MODE,
    NONE,
    OPENS,
    PRECHARGE,
    QUEUE,
    READS,
    WHOLE,
    WITHIN,
    Rules,
    Tables,
)

CLOSED = -1
FOREVER = 1 << 60
_NEVER = -(1 << 40)
_MIXED = -2

OPENED = 0
"""The queue of requests whose row has been opened for them; 1 and 2 are ``READS`` and ``WRITES``."""

BANKS, GROUPS, BUFFERS, DEPTH, EAGER, MOD, REF, CLOSE_ALL, CLOSE_ONE, INTERVAL, SLACK = range(11)
"""What ``State.device`` has."""
NOW, FINISHED, RETURNED, DUE, REGISTER, SENT, LAST, LEFT, SEEN, WRITING, TURN, WAITING = range(12)
"""What ``State.clocks`` has of a kind. ``NOW``: cycle of the last command. ``FINISHED``: when what was issued is done;
``RETURNED``: when the last reordered read is. ``DUE``: the next refresh. ``REGISTER``: the mode is that of register
commands. ``SENT``: requests issued in their turn, ``LAST``: the last of them. ``LEFT``: when the last request left a
queue of requests that are reordered, ``SEEN``: cycle up to which they have been looked at. ``WRITING``: writes are
served. ``TURN``: the bank that is closed next. ``WAITING + q``: requests in queue q."""
ARRIVAL, USED = range(2)
"""What ``State.host`` has: when the next instruction arrives, and rows of the log in use."""
COMMAND, BANK, ROW, COLUMN, NUMBER = range(5)
"""What ``State.requests`` has of each request; lower numbers came earlier."""

LOGGED = 6
"""Numbers in the log of a command: cycle, command, kind, bank, row, column."""


_Function = TypeVar("_Function", bound=Callable[..., Any])


def entry(function: _Function) -> _Function:
    """Compile a function that Python calls. None of these allocates: not to count references takes a tenth off the
    time to compile."""
    return cast(_Function, njit(cache=True, _nrt=False)(function))  # type: ignore[call-overload]


def helper(function: _Function) -> _Function:
    """Compile a function that only compiled ones call: without wrappers, which take a quarter of the time."""
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(_Function, njit(cache=True, _nrt=False, **options)(function))  # type: ignore[call-overload]


def inlined(function: _Function) -> _Function:
    """Compile a function as part of its callers."""
    return cast(_Function, njit(inline="always")(function))


class State(NamedTuple):
    """Attributes:
    device: see above; the same for all.
    group: ``[banks]``: where ``ready`` has the group of a bank.
    ready: ``[kinds, 1 + groups + banks, commands]``: from when on a command is allowed by what was issued to the
        channel, a bank group, a bank.
    rows: ``[kinds, row buffers, banks]``: the open row, or CLOSED.
    recent: ``[kinds, windows, count]``: the last commands of each window.
    clocks: ``[kinds, 12 + 3]``.
    turns: ``[kinds, depth]``: when the last requests that kept their turn were issued.
    requests: ``[kinds, 3, depth, 5]``: queues of requests that may be reordered, the earliest first.
    issued: ``[kinds, commands]``: how many.
    log: ``[room, 6]``: commands as issued; those it has no room for are only counted.
    host: ``[2]``.
    """

    device: NDArray[np.int64]
    group: NDArray[np.int64]
    ready: NDArray[np.int64]
    rows: NDArray[np.int64]
    recent: NDArray[np.int64]
    clocks: NDArray[np.int64]
    turns: NDArray[np.int64]
    requests: NDArray[np.int64]
    issued: NDArray[np.int64]
    log: NDArray[np.int64]
    host: NDArray[np.int64]

    @classmethod
    def start(
        cls, tables: Tables, org: Organisation, kinds: int, room: int, interval: int, first: int, slack: int
    ) -> State:
        """Before the first instruction; ``interval``, ``first``, ``slack`` are of refresh, see ``engine.run``."""
        own = [tables.number(name) for name in ("MOD", "REF", "PREAB", "PRE")]
        interval = interval if tables.number("REF") != NONE else 0
        device = [org.banks, org.bank_groups, org.row_buffers, org.queue, int(org.eager_precharge), *own]
        commands = len(tables.names)
        windows = tables.rules.windows
        clocks = np.zeros((kinds, WAITING + 3), np.int64)
        clocks[:, DUE] = first if interval else FOREVER
        return cls(
            device=np.array([*device, interval, slack], np.int64),
            group=1 + np.arange(org.banks) // (org.banks // org.bank_groups),
            ready=np.full((kinds, 1 + org.bank_groups + org.banks, commands), _NEVER, np.int64),
            rows=np.full((kinds, org.row_buffers, org.banks), CLOSED, np.int64),
            recent=np.full((kinds, len(windows), max(windows[:, COUNT], default=1)), _NEVER, np.int64),
            clocks=clocks,
            turns=np.zeros((kinds, org.queue), np.int64),
            requests=np.zeros((kinds, 3, org.queue, NUMBER + 1), np.int64),
            issued=np.zeros((kinds, commands), np.int64),
            log=np.empty((room, LOGGED), np.int64),
            host=np.array([1, 0], np.int64),
        )


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
