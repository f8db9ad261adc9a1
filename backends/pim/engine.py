"""The timing engine: when each command of a program is issued, by exact event timing (see :mod:`controller`)."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.controller import WAIT, issue
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import HOST, SYNC, Program
from fettle.backends.pim.tables import NONE, Tables

_LOGGED = 6
"""Numbers that the log has of a command, see :func:`issue`."""


@attrs.frozen(eq=False)
class Issued:
    """Commands as issued, in order of time within a channel: one row each."""

    times: NDArray[np.int64]
    commands: NDArray[np.int32]
    channels: NDArray[np.int32]
    banks: NDArray[np.int32]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, log: NDArray[np.int64], representative: NDArray[np.int64]) -> Issued:
        """From a log of ``issue``; channel ``representative[k]`` stands for its kind k."""
        times, commands, kinds, *place = np.ascontiguousarray(log.T)
        banks, rows, columns = (where.astype(np.int32) for where in place)
        return cls(times, commands.astype(np.int32), representative[kinds].astype(np.int32), banks, rows, columns)


@attrs.frozen(eq=False)
class Timing:
    """Result of a run.

    Attributes:
        cycles: until the host has seen the end of everything.
        counts: ``[commands]`` issued, all channels together.
        issued: the commands themselves, if asked for.
    """

    cycles: int
    counts: NDArray[np.int64]
    issued: Issued | None = None


def run(
    program: Program,
    tables: Tables,
    organisation: Organisation,
    *,
    refresh: int = 0,
    first_refresh: int = 0,
    slack: int = 0,
    record: bool = False,
) -> Timing:
    """Time a program.

    Args:
        refresh: cycles between two refreshes; 0 for none.
        first_refresh: cycle when the first is due.
        slack: how many refreshes may be postponed until a row is closed anyway (JEDEC allows 8).
        record: keep the commands.
    """
    own = {HOST: NONE, SYNC: WAIT}
    numbers = np.array([own.get(name, tables.number(name)) for name in program.names], np.int32)
    members, multiplicity, representative = _classes(program, organisation.channels)
    requests = (
        numbers[program.operations],
        program.banks,
        program.rows,
        program.columns,
        program.counts,
        program.holds,
        members,
    )
    settings = _settings(tables, organisation, refresh, first_refresh, slack)
    room = _room(program, members, organisation) if record else 0
    while True:
        log = np.empty((room, _LOGGED), np.int64)
        cycles, counts, total = issue(*requests, *tables.rules, settings, log)
        if not record or total <= room:
            break
        room = int(total)  # refreshes and row changes are not known beforehand
    issued = Issued.of(log[: int(total)], representative) if record else None
    return Timing(int(cycles), multiplicity @ counts, issued)


def _settings(tables: Tables, organisation: Organisation, *refresh: int) -> NDArray[np.int64]:
    """What ``issue`` knows of the device beside its commands, in the order it unpacks.

    ``refresh``: interval, first, slack.
    """
    own = [tables.number(name) for name in ("MOD", "REF", "PREAB", "PRE")]
    org = organisation
    layout = [org.banks, org.bank_groups, org.row_buffers, org.queue, int(org.eager_precharge)]
    return np.array([*layout, *own, *refresh], np.int64)


def _classes(program: Program, channels: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Channels that take part in the same instructions behave alike: one of each kind is simulated."""
    kinds = np.unique(program.channels)
    parts = (kinds[:, None] >> np.arange(channels, dtype=np.uint64)) & np.uint64(1)
    _, first, sizes = np.unique(parts, axis=1, return_index=True, return_counts=True)
    members = parts[:, first][np.searchsorted(kinds, program.channels)].astype(bool)
    return members, sizes.astype(np.int64), first.astype(np.int64)


def _room(program: Program, members: NDArray[np.bool_], organisation: Organisation) -> int:
    """A first guess at how many commands will be issued."""
    requests = int((program.counts[:, None] * members).sum())
    return 2 * requests + 4 * len(program) * int(members.shape[1]) + 1024
