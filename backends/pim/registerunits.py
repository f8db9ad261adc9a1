"""Executes the commands of :mod:`registers` on data, lane by lane."""

from __future__ import annotations

import numpy as np

from fettle.backends.pim.mapping import Array
from fettle.backends.pim.program import Program
from fettle.backends.pim.registers import Plan
from fettle.graph.errors import Internal


def execute(plan: Plan, program: Program, part: slice, x: Array, weight: Array) -> Array:
    """Execute the multiply-accumulates of a program and add up what it leaves in the banks.

    Args:
        part: the instructions of this product, see :meth:`Plan.emit`.
        x: ``[problems, m, k]`` float32.
        weight: ``[problems, n, k]`` float32.

    Returns:
        ``[problems, m, n]`` float32.
    """
    gemv, org = plan.gemv, plan.org
    x, weight = _sliced(plan, x), _sliced(plan, weight)
    outputs, inputs = plan.tiles
    width = plan.part_columns
    stored = {
        place: (turn, j, t, half)
        for turn in range(plan.turns)
        for j in range(outputs)
        for t in range(inputs)
        for half, place in enumerate(plan.parts(turn, j, t))
    }
    result = np.zeros((gemv.problems, gemv.m, gemv.n), np.float32)
    names = [program.names[i] for i in program.operations[part].tolist()]
    addresses = (program.rows[part].astype(np.int64) * org.columns + program.columns[part]).tolist()
    places = zip(names, program.banks[part].tolist(), addresses, program.counts[part].tolist(), strict=True)
    passes = plan.passes()
    turn, b, tiles = next(passes)
    done: dict[tuple[int, int, int, int], int] = {}  # columns (a bit each) of tiles, and of which inputs in turn
    columns, first = 0, plan.first_row * org.columns
    for name, bank, address, count in places:
        if name == "MACH":
            part_number, within = divmod(address - first, width)
            turn_read, j, t, half = stored.get((bank, first + part_number * width), (-1, 0, 0, 0))
            key = columns // plan.tile_columns, turn_read, j, t
            bits = (1 << count) - 1 << half * width + within
            if turn_read < 0 or key[0] >= len(tiles) or done.get(key, 0) & bits:
                raise Internal("a command multiplies where no tile of weights lies, or once too often")
            done[key] = done.get(key, 0) | bits
            columns += count
        elif name == "WRH":
            if set(done.values()) != {(1 << plan.tile_columns) - 1}:
                raise Internal("a tile of weights was not read whole")
            problems, sums = _problems(plan, turn), np.zeros((), np.float32)
            for number, turn_read, j, t in done:
                rows = weight[_problems(plan, turn_read), plan.outputs_of(j)]
                sums = sums + _multiply(plan, x[problems, b], rows, tiles[number][1], t)
            result[problems, b, plan.outputs_of(tiles[0][0])] += gemv.leaving(sums).sum(axis=(2, 3))
            done.clear()
            columns = 0
            turn, b, tiles = next(passes, (0, 0, []))
    return result


def _problems(plan: Plan, turn: int) -> slice:
    """Of a round."""
    return slice(turn * plan.at_once, (turn + 1) * plan.at_once)


def _sliced(plan: Plan, operand: Array) -> Array:
    """``[problems, rows, k]`` as ``[problems, rows, slices, bursts, lanes]``, with zeros behind K."""
    missing = plan.slices * plan.slice_k - operand.shape[2]
    if missing:
        operand = np.pad(operand, ((0, 0), (0, 0), (0, missing)))
    return operand.reshape(*operand.shape[:2], plan.slices, -1, plan.org.lanes)


def _multiply(plan: Plan, x: Array, weight: Array, inputs: int, t: int) -> Array:
    """Sums ``[problems, outputs, slices, lanes]`` of tile ``inputs`` of x, which the registers hold, and tile ``t`` of
    the weights of some outputs, which the commands read; the two are one if all is well."""
    width = plan.org.buffer_columns
    held, read = (slice(tile * width, (tile + 1) * width) for tile in (inputs, t))
    return np.asarray(np.einsum("pnsgl,psgl->pnsl", weight[:, :, :, read], x[:, :, held]))
