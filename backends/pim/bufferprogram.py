"""The commands of a product on a global buffer, in the order of its dataflow (see :mod:`globalbuffer`)."""

from __future__ import annotations

import attrs
import numpy as np

from fettle.backends.pim.bufferspace import INPUT
from fettle.backends.pim.globalbuffer import Ints, Plan
from fettle.backends.pim.program import HOST, Builder
from fettle.backends.rounding import ceil_div

FEED, BIAS, MAC, READ = range(4)
"""What an instruction does: write a part of a chunk into buffers, clear accumulators, multiply-accumulate a segment,
read results."""

_COMMANDS = ("WRGB", "WRBIAS", "MACAB", "RDMAC")
_KEYS = 6


@attrs.frozen(eq=False)
class Notes:
    """What the host knows about its instructions, one element each.

    Attributes:
        first: which instruction of the program is the first of these.
        what: ``FEED`` … ``READ``.
        turn, vector, output, chunk: the round, row of x, output group and chunk an instruction is for; 0 where it is
            for all of them.
    """

    first: int
    what: Ints
    turn: Ints
    vector: Ints
    output: Ints
    chunk: Ints


def emit(plan: Plan, builder: Builder) -> Notes:
    """Append the commands of a product."""
    builder.add(HOST)  # the register that says where units take their inputs from
    table = np.concatenate([_feeds(plan), *(_steps(plan, what) for what in (BIAS, MAC, READ))], axis=1)
    order = np.lexsort(table[_KEYS - 1 :: -1])
    what, turn, vector, output, chunk, row, column, count, mask = table[_KEYS:, order]
    notes = Notes(len(builder), what, turn, vector, output, chunk)
    builder.extend(_COMMANDS, what, row=row, column=column, count=count, channels=mask)
    return notes


def _steps(plan: Plan, what: int) -> Ints:
    """All instructions of one kind but ``FEED``; rows: the keys, what, turn, vector, output, chunk, DRAM row, column,
    count, channels."""
    per_chunk = what == MAC or plan.values["dataflow"] == INPUT
    chunks = plan.chunks if per_chunk else 1
    turn, vector, output, chunk = _grid(plan.turns, plan.gemv.m, plan.outputs, chunks)
    row, column, count = (np.array(usual) for usual in (-1, 0, 2 if what == READ and plan.gemv.wide else 1))
    if what == MAC:
        row, column = plan.place(turn, output, chunk)
        count = np.array([plan.gemv.columns(int(k), plan.org.column_bytes) for k in plan.chunk_elements()])[chunk]
    mask = plan.masks().view(np.int64)[turn, output]
    keys = _keys(plan, what, turn, vector, output, chunk)
    return _stack(*keys, what, what, turn, vector, output, chunk, row, column, count, mask)


def _feeds(plan: Plan) -> Ints:
    """Writes of chunks into buffers, as :func:`_steps`; where channels differ they are sent a queue's length in turns,
    so that none waits for another's queue."""
    width = -(-plan.chunk_elements() // plan.org.lanes)
    groups = plan.groups()
    length = np.where(groups == 1, width[0], plan.org.queue)
    pieces = ceil_div(int(width[0]), int(length.min()))
    once = plan.values["dataflow"] == INPUT or plan.buffer_kept
    outputs = 1 if once else plan.outputs
    grid = _grid(plan.turns, plan.gemv.m, outputs, plan.chunks, pieces, int(groups.max()))
    turn, _, _, chunk, piece, group = grid
    there = (piece * length[turn] < width[chunk]) & (group < groups[turn])
    turn, vector, output, chunk, piece, group = grid[:, there]
    start = piece * length[turn]
    count = np.minimum(length[turn], width[chunk] - start)
    one = np.array([((1 << plan.share) - 1) << (g * plan.share) for g in range(int(groups.max()))], np.uint64)
    keys = _keys(plan, FEED, turn, vector, output, chunk)
    column = plan.buffer_column(vector) + start
    return _stack(
        *keys,
        piece * groups.max() + group,
        FEED,
        turn,
        vector,
        output,
        chunk,
        -1,
        column,
        count,
        one.view(np.int64)[group],
    )


def _keys(plan: Plan, what: int, turn: Ints, vector: Ints, output: Ints, chunk: Ints) -> tuple[Ints, ...]:
    """What instructions are sorted by, the most significant first; the last key tells those of equal keys apart.

    input stationary        for round, rows of x together, chunk: feeds; then for output, row: bias, mac, read
    output stationary       for round, row of x, output: bias; then for chunk: feeds, mac; then read
    """
    nothing = np.zeros_like(chunk)
    if plan.values["dataflow"] == INPUT:
        together, within = np.divmod(vector, int(plan.values["interleave"]))
        backwards = (plan.values["order"] == "serpentine") & (chunk % 2 == 1)
        stage = nothing if what == FEED else 1 + np.where(backwards, plan.outputs - 1 - output, output)
        return turn, together, chunk, stage, within
    stage = (1 + 2 * chunk, nothing, 2 + 2 * chunk, nothing + 1 + 2 * plan.chunks)[what]
    return turn, vector, output, stage, nothing


def _grid(*extents: int) -> Ints:
    """All combinations of indices, one row for each extent."""
    return np.indices(extents).reshape(len(extents), -1)


def _stack(*rows: Ints | int) -> Ints:
    return np.stack(np.broadcast_arrays(*rows))
