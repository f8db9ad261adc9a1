"""The timing engine: when each command of a program is issued, by exact event timing (see :mod:`controller`)."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.controller import WAIT, issue
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import HOST, SYNC, Program
from fettle.backends.pim.tables import NONE, Tables


@attrs.frozen(eq=False)
class Issued:
    """Commands as issued, in order of time within a channel: one row each."""

    times: NDArray[np.int64]
    commands: NDArray[np.int32]
    channels: NDArray[np.int32]
    banks: NDArray[np.int32]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]


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
    slack: int = 0,
    record: bool = False,
) -> Timing:
    """Time a program.

    Args:
        refresh: cycles between two refreshes; 0 for none.
        slack: how many refreshes may be postponed until a row is closed anyway (JEDEC allows 8).
        record: keep the commands.
    """
    own = {HOST: NONE, SYNC: WAIT}
    numbers = np.array([own.get(name, tables.number(name)) for name in program.names], np.int32)
    members, multiplicity, representative = _classes(program, organisation.channels)
    arguments = (
        numbers[program.operations],
        program.banks,
        program.rows,
        program.columns,
        program.counts,
        program.holds,
        members,
        tables.starts,
        tables.before,
        tables.level,
        tables.cycles,
        tables.whole,
        tables.activate,
        tables.precharge,
        tables.opens,
        tables.closes,
        tables.buffer,
        tables.mode,
        tables.latency,
        tables.blocking,
        tables.windows,
        tables.members,
        np.array(
            [
                organisation.banks,
                organisation.bank_groups,
                organisation.row_buffers,
                organisation.queue,
                int(organisation.eager_precharge),
                tables.number("MOD"),
                tables.number("REF"),
                tables.number("PREAB"),
                tables.number("PRE"),
                refresh,
                slack,
            ],
            np.int64,
        ),
    )
    room = _room(program, members, organisation) if record else 0
    log = np.empty((room, 6), np.int64)
    cycles, counts, used = issue(*arguments, log)
    while used > room > 0:  # refreshes and row changes are not known beforehand
        log = np.empty((int(used), 6), np.int64)
        room = int(used)
        cycles, counts, used = issue(*arguments, log)
    issued = None
    if record:
        rows = log[: int(used)]
        issued = Issued(
            rows[:, 0].copy(),
            rows[:, 1].astype(np.int32),
            representative[rows[:, 2]].astype(np.int32),
            *(rows[:, i].astype(np.int32) for i in (3, 4, 5)),
        )
    return Timing(int(cycles), multiplicity @ counts, issued)


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
