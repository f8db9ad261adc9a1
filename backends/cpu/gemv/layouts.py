"""Packing: a quantised weight ``[N, K]`` to the line order of :mod:`fettle.backends.cpu.gemv.plan`. NumPy only.

Fields (``integer``, ``dequantise``): byte j of row r in a 64-byte line of 16 rows holds, from the low bits up,
the codes of k = 4·f + j for each field f. Planes (``lut``): the four bits of plane p of four neighbouring k are
a nibble, an index into the table of these four activations; the low nibble of byte j of row r is the quad
k = 4·j …, the high nibble the quad 16 elements later (``vpermb``, 16 rows a line); or every byte is another row,
the low nibble its first quad and the high nibble its second (``pshufb``, 32 rows a line). Half tables (``mirror``,
``triplets``): every byte is another row, too, those of a block's four quarters in turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.cpu.gemv.entries import QUINTET_NUMBERS
from fettle.backends.cpu.gemv.plan import TRIPLETS, Plan
from fettle.backends.cpu.views import aligned
from fettle.graph.errors import InvalidArgument
from fettle.graph.layouts import Layout
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_GATHER = np.uint32(1 << 24 | 1 << 17 | 1 << 10 | 1 << 3)
"""Moves bit 0 of the four bytes of a word to bits 24 … 27; no two products meet in a bit, so nothing carries."""
_ONES = np.uint64(0x0101010101010101)
_GATHER_OCTET = np.uint64(0x0102040810204080)
"""Likewise of the eight bytes of 64 bits to bits 56 … 63."""


def packed_constants(workload: Workload, constants: Sequence[Operand], plan: Plan) -> tuple[np.ndarray, ...]:
    """The weight of a workload, its only constant, as :func:`pack` lays it out.

    Raises:
        InvalidArgument: it is not quantised as the workload says, or has another shape than ``(n, k)``.
    """
    (weight,) = constants
    shape = (plan.n, plan.k)
    if not isinstance(weight, QuantizedWeight) or (weight.format, weight.shape) != (workload["weight"], shape):
        raise InvalidArgument(f"the weight of {workload} is a quantised {workload['weight']} {shape}")
    return pack(weight, plan)


def pack(weight: QuantizedWeight, plan: Plan) -> tuple[np.ndarray, ...]:
    """(codes, scales[, zero points]) as flat arrays at 64-byte alignment."""
    codes = _padded(weight.codes, plan)
    if plan.is_triplets:
        lines = _triplets(codes, plan)
    elif plan.is_mirror:
        lines = _mirrored(codes, plan)
    else:
        lines = _plane_words(codes, plan) if plan.is_lut else _field_words(codes, plan)
    arrays: list[np.ndarray] = [aligned(lines.view(np.uint8)), aligned(_per_group(weight.scales, weight, plan))]
    if weight.zero_points is not None:
        arrays.append(aligned(_per_group(weight.zero_points, weight, plan)))
    return tuple(arrays)


def _padded(codes: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """``[padded_n, stored groups, padded_group]``, zeros where there is no weight."""
    if plan.planes_apart > 1:
        planes = [_padded((codes >> np.uint8(p)) & np.uint8(1), _one_plane(plan)) for p in range(plan.planes_apart)]
        return np.stack(planes, axis=2).reshape(plan.padded_n, plan.stored_groups, plan.padded_group)
    shape = (plan.padded_n, plan.groups, plan.padded_group)
    if plan.is_exact and plan.padded_n == plan.n:
        return np.ascontiguousarray(codes).reshape(shape)
    padded = np.zeros(shape, np.uint8)
    for group in range(plan.groups):
        part = codes[:, group * plan.group : (group + 1) * plan.group]
        padded[: plan.n, group, : part.shape[1]] = part
    return padded


def _one_plane(plan: Plan) -> Plan:
    """The plan of one plane of a binary-coded weight."""
    return attrs.evolve(plan, planes_apart=1)


def _field_words(codes: NDArray[np.uint8], plan: Plan) -> NDArray[np.generic]:
    """Words of four bytes, one per (row, group, step), in line order."""
    chunks = codes.view(np.uint32).reshape(plan.padded_n, plan.stored_groups * plan.steps, plan.fields)
    words = chunks[:, :, 0].copy()
    for field in range(1, plan.fields):
        words |= chunks[:, :, field] << np.uint32(field * plan.field)
    return _blocked(words, plan)


def _plane_words(codes: NDArray[np.uint8], plan: Plan) -> NDArray[np.generic]:
    """Table indices, one word (``vpermb``) or byte (``pshufb``) per (row, group, step, plane), in line order."""
    quads = codes.view(np.uint32).reshape(plan.padded_n, plan.stored_groups * plan.steps, plan.step_k // 4)
    half = plan.step_k // 8
    shape = (plan.padded_n, plan.stored_groups * plan.steps, plan.planes)
    result = np.empty((*shape, half), np.uint8)
    for plane in range(plan.planes):
        bits = (quads >> np.uint32(plane)) & np.uint32(0x01010101)
        nibbles = ((bits * _GATHER) >> np.uint32(24)).astype(np.uint8) & np.uint8(15)
        result[:, :, plane] = nibbles[:, :, :half] | (nibbles[:, :, half:] << np.uint8(4))
    return _blocked(result if half == 1 else result.view(np.uint32), plan)


def _mirrored(codes: NDArray[np.uint8], plan: Plan) -> NDArray[np.generic]:
    """One byte per (row, group, plane, step), the highest plane first: seven bits of index, and a sign (set: the
    entry itself)."""
    if plan.sums_digits:
        value, negative = _digits(codes, plan)
        result = (QUINTET_NUMBERS[value] | (~negative).astype(np.uint8) << np.uint8(7))[..., None]
    else:
        chunks = codes.reshape(plan.padded_n, plan.stored_groups, plan.steps, plan.step_k)
        result = np.empty((*chunks.shape[:2], plan.planes, plan.steps), np.uint8)
        words = chunks.view(np.uint64)[..., 0]
        flipped = (~_stored(plan).any(axis=2) & (np.arange(plan.steps) % 2 == 1)).astype(np.uint8) << np.uint8(7)
        for plane in range(plan.planes):
            octets = (((words >> np.uint64(plane)) & _ONES) * _GATHER_OCTET >> np.uint64(56)).astype(np.uint8)
            index = np.where(octets & np.uint8(0x80), octets, octets ^ np.uint8(0x7F))
            result[:, :, plan.planes - 1 - plane] = index ^ flipped
    return _blocked(_in_quarters(result, plan), plan)


def _triplets(codes: NDArray[np.uint8], plan: Plan) -> NDArray[np.generic]:
    """One byte per (row, group, line): after each byte of eight signs four of two indices, or as few as are left."""
    value, negative = _digits(codes, plan)
    places = -(-plan.tables // TRIPLETS)
    padding = ((0, 0), (0, 0), (0, places * TRIPLETS - plan.tables))
    index = np.pad(value.astype(np.uint8), padding).reshape(*value.shape[:2], places, TRIPLETS)
    signs = np.packbits(np.pad(~negative, padding).reshape(index.shape), axis=3)
    pairs = index[..., 0::2] | index[..., 1::2] << np.uint8(4)
    lines = np.concatenate([signs, pairs], axis=3).reshape(*value.shape[:2], -1)[..., : plan.group_lines]
    return _blocked(_in_quarters(lines, plan), plan)


def _digits(codes: NDArray[np.uint8], plan: Plan) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """``|Σ_i t_i·3^i|`` of the ternary digits of each half table, and where it is mirrored.

    A byte stands for half a unit more or less than its entry says: zeros take both signs in turn.
    """
    chunks = codes.reshape(plan.padded_n, plan.stored_groups, plan.tables, plan.table_k)
    digits = np.where(_stored(plan)[None, :, :, :], chunks, 1)
    value = (digits.astype(np.int16) - 1) @ (3 ** np.arange(plan.table_k)).astype(np.int16)
    is_odd = np.arange(plan.tables) % 2 == 1
    return np.abs(value), np.where(value == 0, is_odd, value < 0)


def _in_quarters(lines: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """Rows in the order of a line's bytes: byte 4i + q holds the i-th row of the q-th quarter of a block."""
    rows = plan.block_rows
    order = np.arange(rows).reshape(4, rows // 4).T.reshape(-1)
    return np.ascontiguousarray(lines.reshape(plan.padded_n // rows, rows, -1)[:, order])


def _stored(plan: Plan) -> NDArray[np.bool_]:
    """``[stored groups, tables, table_k]``: the elements that are not padding."""
    inside = np.arange(plan.padded_group)
    valid = (inside < plan.group) & (np.arange(plan.groups)[:, None] * plan.group + inside < plan.k)
    return np.repeat(valid, plan.planes_apart, axis=0).reshape(plan.stored_groups, plan.tables, plan.table_k)


def _blocked(words: NDArray[np.generic], plan: Plan) -> NDArray[np.generic]:
    """Words in ``[tile, superblock, block, row][group][line]`` order, in the plan's."""
    inner = plan.group_lines
    rows, blocks, groups = plan.block_rows, plan.blocks, plan.stored_groups
    superblock = inner * blocks * rows
    tile_group = plan.tile_blocks // blocks * superblock
    layout = Layout(
        (inner, groups, rows, blocks, plan.tile_blocks // blocks, plan.tiles),
        (blocks * rows, tile_group, 1, rows, superblock, groups * tile_group),
    )
    return layout.scatter(words.reshape(-1))


def _per_group(values: NDArray[np.generic], weight: QuantizedWeight, plan: Plan) -> NDArray[np.generic]:
    """``[N, groups of the format(, planes)]`` to flat ``[tile][group][row]``; padded rows are zero."""
    source = np.arange(plan.groups) * plan.group // weight.group
    padded = np.zeros((plan.padded_n, plan.stored_groups), values.dtype)
    padded[: plan.n] = values[:, source].reshape(plan.n, plan.stored_groups)
    return Layout.compact((plan.stored_groups, plan.tile, plan.tiles), (1, 0, 2)).scatter(padded.reshape(-1))
