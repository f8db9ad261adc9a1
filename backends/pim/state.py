"""What the controllers of all channels know at a time, in arrays.

A channel stands for its kind, all channels that take part in the same instructions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.tables import COUNT, NONE, Tables

CLOSED = -1
FOREVER = 1 << 60
_NEVER = -(1 << 40)

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
