"""What the controllers of all channels know at a time.

A channel stands for its kind, all channels that take part in the same instructions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.records import Records, record
from fettle.backends.pim.tables import NONE, Tables

CLOSED = -1
FOREVER = 1 << 60
_NEVER = -(1 << 40)

DEVICE = record(*("banks", "groups", "buffers", "depth", "eager", "mod", "ref", "close_all", "close_one", "interval"))
"""What is the same for all channels: sizes, ``depth`` of a queue, whether rows that none wants are closed (``eager``),
numbers of commands (MOD, REF, PREAB, PRE), the ``interval`` of refreshes."""
CHANNEL = record(*("now", "finished", "returned", "due", "register", "sent", "last", "left", "seen", "writing", "turn"))
"""``now``: cycle of the last command. ``finished``: when what was issued is done; ``returned``: when the last reordered
read is. ``due``: the next refresh. ``register``: the mode is that of register commands. ``sent``: requests issued in
their turn, ``last``: the last of them. ``left``: when the last request left a queue of requests that are reordered,
``seen``: cycle up to which they have been looked at. ``writing``: writes are served. ``turn``: the bank that is closed
next."""
ISSUE = record("time", "command", "kind", "bank", "row", "column")
"""A command as issued."""
HOST = record("arrival", "used")
"""When the next instruction arrives; how many rows of the log are in use."""


class State(NamedTuple):
    """Attributes:
    device: ``DEVICE``.
    channels: ``[kinds]`` of ``CHANNEL``.
    group: ``[banks]``: where ``ready`` has the group of a bank.
    ready: ``[kinds, 1 + groups + banks, commands]``: from when on a command is allowed by what was issued to the
        channel, a bank group, a bank.
    rows: ``[kinds, row buffers, banks]``: the open row, or CLOSED.
    recent: ``[kinds, windows, count]``: the last commands of each window.
    turns: ``[kinds, depth]``: when the last requests that kept their turn were issued.
    issued: ``[kinds, commands]``: how many.
    log: ``[room]`` of ``ISSUE``: commands as issued; those it has no room for are only counted.
    host: ``HOST``.
    """

    device: np.record
    channels: Records
    group: NDArray[np.int64]
    ready: NDArray[np.int64]
    rows: NDArray[np.int64]
    recent: NDArray[np.int64]
    turns: NDArray[np.int64]
    issued: NDArray[np.int64]
    log: Records
    host: np.record

    @classmethod
    def start(cls, tables: Tables, org: Organisation, kinds: int, room: int, interval: int, first: int) -> State:
        """Before the first instruction; ``interval`` and ``first`` are of refresh, see ``engine.run``."""
        own = [tables.number(name) for name in ("MOD", "REF", "PREAB", "PRE")]
        interval = interval if tables.number("REF") != NONE else 0
        device = [org.banks, org.bank_groups, org.row_buffers, org.queue, int(org.eager_precharge), *own]
        commands = len(tables.names)
        windows = tables.rules.windows["count"]
        channels = np.zeros(kinds, CHANNEL)
        channels["due"] = first if interval else FOREVER
        return cls(
            device=np.array([(*device, interval)], DEVICE)[0],
            channels=channels,
            group=1 + np.arange(org.banks) // (org.banks // org.bank_groups),
            ready=np.full((kinds, 1 + org.bank_groups + org.banks, commands), _NEVER, np.int64),
            rows=np.full((kinds, org.row_buffers, org.banks), CLOSED, np.int64),
            recent=np.full((kinds, len(windows), max(windows, default=1)), _NEVER, np.int64),
            turns=np.zeros((kinds, org.queue), np.int64),
            issued=np.zeros((kinds, commands), np.int64),
            log=np.empty(room, ISSUE),
            host=np.array([(1, 0)], HOST)[0],
        )
