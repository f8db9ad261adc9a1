"""The timing engine: when each command of a program is issued, by exact event timing (see :mod:`controller`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.host.compiling import without_collection
from fettle.backends.pim import columns_first, oldest_ready
from fettle.backends.pim.controller import in_turn
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import DONE, HOST, INSTRUCTION, SYNC, UNTOLD, Program
from fettle.backends.pim.records import Records
from fettle.backends.pim.requests import Queues, finish
from fettle.backends.pim.state import State
from fettle.backends.pim.tables import NONE, Rules, Tables

_SYNC, _DONE = -2, -3
"""Numbers of the instructions with which the host waits."""
_QUEUED = 1
"""Marks instructions whose requests may be reordered."""

_CONTROLLERS: Mapping[str, Any] = {"oldest_ready": oldest_ready, "columns_first": columns_first}
"""Controllers that reorder requests."""


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
    def of(cls, log: Records, representative: NDArray[np.int64]) -> Issued:
        """From a log of ``ISSUE``; channel ``representative[k]`` stands for its kind k."""
        commands, banks, rows, columns = (log[name].astype(np.int32) for name in ("command", "bank", "row", "column"))
        channels = representative[log["kind"]].astype(np.int32)
        return cls(log["time"].copy(), commands, channels, banks, rows, columns)


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
    own = {HOST: NONE, SYNC: _SYNC, DONE: _DONE}
    numbers = np.array([own[name] if name in own else tables.number(name) for name in program.names], np.int64)
    members, multiplicity, representative = _classes(program, organisation.channels)
    fields = (numbers[program.operations], program.banks, program.rows, program.columns, program.counts, program.holds)
    instructions = np.empty(len(program), INSTRUCTION)
    for name, field in zip(INSTRUCTION.names or (), fields, strict=True):
        instructions[name] = field
    room = _room(program, members, organisation) if record else 0
    while True:
        state = State.start(tables, organisation, members.shape[1], room, refresh, first_refresh)
        with without_collection():
            cycles = _serve(instructions, members, tables.rules, state, slack, organisation)
        used = int(state.host.used)
        if not record or used <= room:
            break
        room = used  # refreshes and row changes are not known beforehand
    issued = Issued.of(state.log[:used], representative) if record else None
    return Timing(cycles, multiplicity @ state.issued, issued)


def _serve(
    instructions: Records,
    members: NDArray[np.bool_],
    rules: Rules,
    state: State,
    slack: int,
    organisation: Organisation,
) -> int:
    """Serve a program, part by part.

    Returns:
        The cycle in which the host has seen the end of everything.
    """
    controller = _CONTROLLERS.get(organisation.reorders)
    postponed = slack if state.device.interval else None  # None: without refreshes, none of their code is compiled
    queues = Queues.start(organisation, members.shape[1])
    filled = np.zeros(members.shape[1], bool)  # kinds of channel with requests in their queues
    cycles = 0
    for part, start, stop in _parts(instructions, rules, controller is not None):
        taking = members[start:stop][instructions["operation"][start:stop] >= 0].any(axis=0)
        if controller is not None and part == _QUEUED:
            controller.send(instructions, members, start, stop, rules, state, postponed, queues)
            filled |= taking
            continue
        leaving = filled if part < NONE else filled & taking
        if controller is not None and leaving.any():
            controller.drain(leaving, rules, state, postponed, queues)
            filled = filled & ~leaving
        if part < NONE:
            cycles = _end(rules, state, queues, part == _SYNC)
            state.host.arrival = cycles + 1
        else:
            in_turn(instructions, members, start, stop, rules, state, postponed, queues.opened())
    if controller is not None and filled.any():
        controller.drain(filled, rules, state, postponed, queues)
    end = _end(rules, state, queues, True)
    return int(cycles if instructions["operation"][-1] == _DONE else end)


def _end(rules: Rules, state: State, queues: Queues, everything: bool) -> int:
    """Cycle in which the host has seen the end of what it sent, see :func:`finish`."""
    if (opened := queues.opened()) is not None:
        return int(finish(rules, state, opened, everything))
    channels = state.channels
    return int(max(state.host.arrival, channels["now"].max() + 1, channels["finished"].max()) + 1)


def _parts(instructions: Records, rules: Rules, reordered: bool) -> Iterator[tuple[int, int, int]]:
    """Instructions ``start … stop`` that are served alike, as (what, start, stop): ``_QUEUED``, ``_SYNC``, ``_DONE``
    (one instruction each), or NONE for those in their turn."""
    operations = instructions["operation"]
    parts = np.where(operations < NONE, operations, NONE)
    if reordered:
        may = rules.commands["queue"][np.maximum(operations, 0)] > 0
        parts[(operations >= 0) & may & (instructions["hold"] == UNTOLD)] = _QUEUED
    starts = np.flatnonzero(np.append(True, (parts[1:] != parts[:-1]) | (parts[1:] < NONE)))
    return zip(parts[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(parts)], strict=True)


def _classes(program: Program, channels: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Channels that take part in the same instructions behave alike: one of each kind is simulated.

    Returns:
        ``[instructions, kinds]``: whether they take part; of each kind how many channels, and the first of them.
    """
    masks = np.unique(program.channels)
    parts = (masks[:, None] >> np.arange(channels, dtype=np.uint64)) & np.uint64(1) != 0
    _, first, sizes = np.unique(parts, axis=1, return_index=True, return_counts=True)
    members = parts[:, first][np.searchsorted(masks, program.channels)]
    return members, sizes.astype(np.int64), first.astype(np.int64)


def _room(program: Program, members: NDArray[np.bool_], organisation: Organisation) -> int:
    """A first guess at how many commands will be issued."""
    requests = int((program.counts[:, None] * members).sum())
    return 2 * requests + 4 * len(program) * int(members.shape[1]) + 1024
