"""Executes the commands of :mod:`bufferprogram` on data: channels with a buffer, banks with a unit and an accumulator.

A unit reads the weights that the row and column of its command stand for; accumulators and buffers hold nothing (NaN)
before they are written.
"""

from __future__ import annotations

import numpy as np

from fettle.backends.host.compiling import without_collection
from fettle.backends.pim.bufferprogram import BIAS, FEED, MAC, READ, Notes
from fettle.backends.pim.compiling import entry, reassociated
from fettle.backends.pim.globalbuffer import Plan
from fettle.backends.pim.mapping import Array
from fettle.backends.pim.program import Program
from fettle.backends.pim.records import Records, record

PANEL = 128
"""Elements of K that lie side by side in :func:`panels`: of the shortest chunks."""

STEP = record("what", "turn", "vector", "output", "chunk", "begin", "column", "count", "mask")
"""A command: what it is for, round, row of x, output group, chunk, where in the buffer the chunk of that row begins;
its first column, how many, and channels (a bit each)."""
LAYOUT = record("at_once", "slices", "share", "slice_k", "chunk_k", "lanes")
"""How a plan spreads weights, see :class:`~fettle.backends.pim.globalbuffer.Plan`."""


def panels(weight: Array) -> Array:
    """Weights ``[problems, n, k]`` as ``[problems, panels, n, PANEL]`` float32, with zeros behind K.

    So what the banks of a channel multiply at a time is one piece of memory, whatever the chunk: rows of W that are
    many pages apart would miss caches at every one.
    """
    problems, n, k = weight.shape
    found = np.zeros((problems, -(-k // PANEL), n, PANEL), np.float32)
    for panel, start in enumerate(range(0, k, PANEL)):
        part = weight[:, :, start : start + PANEL]
        found[:, panel, :, : part.shape[2]] = part
    return found


def product(x: Array, weight: Array) -> Array:
    """``x · W`` of ``[problems, m, k]`` and :func:`panels`, as the host computes it."""
    missing = weight.shape[1] * PANEL - x.shape[2]
    parts = np.pad(x, ((0, 0), (0, 0), (0, missing))).reshape(*x.shape[:2], -1, PANEL)
    return np.asarray(np.einsum("pmqk,pqnk->pmn", parts, weight, optimize=True))


def execute(plan: Plan, program: Program, notes: Notes, x: Array, weight: Array) -> Array:
    """Compute a product.

    Args:
        program, notes: its commands, among others perhaps.
        x: ``[problems, m, k]`` float32.
        weight: ``[problems, panels, n, PANEL]`` float32, see :func:`panels`.

    Returns:
        ``[problems, m, n]`` float32.
    """
    gemv, org = plan.gemv, plan.org
    part = slice(notes.first, notes.first + len(notes.what))
    macs = notes.what == MAC
    turn, output, chunk = notes.turn.copy(), notes.output.copy(), notes.chunk.copy()
    turn[macs], output[macs], chunk[macs] = plan.segment_at(program.rows[part][macs], program.columns[part][macs])
    missing = plan.slices * plan.slice_k - gemv.k
    reads = int(np.count_nonzero(notes.what == READ))
    left = np.zeros((reads, org.channels, org.banks), np.float32)
    fields = (notes.what, turn, notes.vector, output, chunk, plan.buffer_column(notes.vector))
    places = (program.columns[part], program.counts[part], program.channels[part].view(np.int64))
    steps = np.empty(len(notes.what), STEP)
    for name, field in zip(STEP.names or (), (*fields, *places), strict=True):
        steps[name] = field
    layout = (plan.at_once, plan.slices, plan.share, plan.slice_k, plan.chunk_k, org.lanes)
    with without_collection():
        _run(
            steps,
            np.array([layout], LAYOUT)[0],
            np.full((org.channels, org.buffer_columns * org.lanes), np.nan, np.float32),
            np.full((org.channels, org.banks), np.nan, np.float32),
            np.pad(x, ((0, 0), (0, 0), (0, missing))),
            weight,
            left,
        )
    return _added(plan, notes, gemv.leaving(left))


def _added(plan: Plan, notes: Notes, left: Array) -> Array:
    """What the host makes of results ``[reads, channels, banks]``: sums over chunks and slices of K."""
    gemv, org = plan.gemv, plan.org
    reads = notes.what == READ
    order = np.lexsort([field[reads] for field in (notes.chunk, notes.output, notes.vector, notes.turn)])
    working = plan.at_once * plan.slices * plan.share
    shape = (plan.turns, gemv.m, plan.outputs, -1, plan.at_once, plan.slices, plan.share, org.banks)
    sums = left[order, :working].reshape(shape).sum(axis=(3, 5))  # turns, m, outputs, at_once, share, banks
    results = sums.transpose(0, 3, 1, 2, 4, 5).reshape(plan.turns * plan.at_once, gemv.m, -1)
    return np.ascontiguousarray(results[: gemv.problems, :, : gemv.n])


@reassociated
def _accumulate(sums: Array, weights: Array, start: int, inputs: Array) -> None:  # pragma: no cover (compiled)
    """Add to every sum the product of ``inputs`` and the row of weights beside it, from ``start`` on."""
    for bank in range(len(weights)):
        row = weights[bank, start : start + len(inputs)]
        total = np.float32(0.0)
        for i in range(len(inputs)):
            total += row[i] * inputs[i]
        sums[bank] += total


@entry
def _run(
    steps: Records, layout: np.record, buffers: Array, sums: Array, x: Array, weight: Array, left: Array
) -> None:  # pragma: no cover (compiled)
    """Loops in place of assigned slices: Numba would compile the message of an error of their shapes, for a second."""
    share, lanes = layout.share, layout.lanes
    channels, banks = sums.shape
    k_end, n_end = weight.shape[1] * PANEL, weight.shape[2]
    for group in range(channels // share):  # channels know nothing of each other; those of a group read side by side
        part, read = group % layout.slices, 0
        members = ~np.uint64(0) >> np.uint64(64 - share) << np.uint64(group * share)
        for i in range(len(steps)):
            step = steps[i]
            what, mask = step.what, np.uint64(step.mask)
            if mask & members == 0:  # of other groups; every result read has its place in ``left``
                read += what == READ
                continue
            problem = step.turn * layout.at_once + group // layout.slices
            begin = part * layout.slice_k + step.chunk * layout.chunk_k
            start, end = begin, min(begin + layout.chunk_k, (part + 1) * layout.slice_k, k_end)
            while what == MAC and start < end:
                panel = start // PANEL
                stop = min(end, (panel + 1) * PANEL)
                place = step.begin * lanes + start - begin
                for channel in range(group * share, (group + 1) * share):
                    if (mask >> np.uint64(channel)) & np.uint64(1):
                        some = buffers[channel, place : place + stop - start]
                        first = (step.output * share + channel % share) * banks
                        rows = weight[problem, panel, first : min(first + banks, n_end)]
                        _accumulate(sums[channel], rows, start - panel * PANEL, some)
                start = stop
            for channel in range(group * share, (group + 1) * share):
                if what == MAC or (mask >> np.uint64(channel)) & np.uint64(1) == 0:
                    continue
                if what == FEED:
                    start = begin + (step.column - step.begin) * lanes
                    place = step.column * lanes
                    for lane in range(step.count * lanes):
                        buffers[channel, place + lane] = x[problem, step.vector, start + lane]
                    continue
                for bank in range(banks):
                    if what == BIAS:
                        sums[channel, bank] = 0.0
                    else:
                        left[read, channel, bank] = sums[channel, bank]
            read += what == READ
