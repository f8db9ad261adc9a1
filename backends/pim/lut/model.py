"""Cycles of a product by table look-up in SRAM arrays.

Every bitline of an array works for one output n on a slice of K, all in lockstep, bit by bit. The weights of ``t``
successive k make a table of ``2^t`` sums; the bits that one bit plane of the ``t`` activations has are the index of a
look-up, the same on every bitline, so one row address serves all of them::

    Σ_i w_i x_i = Σ_j ±2^j T[bits j of x_0 … x_{t-1}],     T[p] = Σ_{i: bit i of p} w_i

With w the bits of a centred weight, e = w + ⌈log2 t⌉ of a table entry, a of an activation, A = w + a + ⌈log2 g⌉ of an
accumulator over a scale group of g weights::

    build a table           (2^t - t - 1)·(e + 1)       additions of e bits; sums of one weight are the weights
    fetch an entry          e                           into the operand rows
    add it                  A - j + 1                   at bit j of the accumulator, carry to the top
    convert a scale group   A + A·⌈log2 A⌉              find the leading one, shift it to the top (int -> float)
      and scale it          11² + 5·11 - 2              by an 11-bit mantissa
      and accumulate        24·⌈log2 24⌉ + 24 + 1       align 24 bits, add

A table serves all rows of x that are worked on together (``batch``): its cost is divided by them. Look-ups of pattern
0 add nothing and are left out. With pattern reuse an entry that is still in one of ``patterns`` operand registers is
not fetched again. How often that happens is counted from the activations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

import attrs
import cattrs
import numpy as np
from numpy.typing import NDArray

_MANTISSA, _SCALE_MANTISSA = 24, 11

BUILD, FETCH, ADD, CONVERT, SCALE, ACCUMULATE = "BUILD", "FETCH", "ADD", "CONVERT", "SCALE", "ACCUMULATE"


def add(plane: int) -> str:
    """The name of the step that adds an entry at a bit plane."""
    return f"{ADD} bit={plane}"


@attrs.frozen
class Sram:
    """The parameters of the device; see the data file for their source.

    Attributes:
        arrays, wordlines, bitlines: SRAM arrays and their size.
        activation_bits: bits activations are quantised to.
        patterns: operand registers that pattern reuse keeps entries in.
        broadcast_bytes: bytes a cycle from the host to all arrays.
        dram_bytes_per_ns: at which weights arrive.
        energy_pj: of one array for a cycle that computes or moves a row, and of a byte of DRAM.
    """

    name: str
    source: str
    clock_ns: float
    arrays: int
    wordlines: int
    bitlines: int
    activation_bits: int
    patterns: int
    broadcast_bytes: int
    dram_bytes_per_ns: float
    energy_pj: Mapping[str, float]
    energy_source: str


@cache
def read_sram() -> Sram:
    """The device as its data file describes it."""
    text = (resources.files("fettle.backends.pim.lut") / "sram-lut.json").read_text(encoding="utf-8")
    return cattrs.Converter(forbid_extra_keys=True).structure(json.loads(text), Sram)


def log2_up(value: int) -> int:
    """⌈log2⌉ of a positive number."""
    return (value - 1).bit_length()


@attrs.frozen
class Widths:
    """Bits of a weight, a table entry and an accumulator; and the inputs of a table."""

    weight: int
    inputs: int
    activation: int
    group: int

    @property
    def entry(self) -> int:
        return self.weight + log2_up(self.inputs)

    @property
    def accumulator(self) -> int:
        return self.weight + self.activation + log2_up(self.group)

    @property
    def tables(self) -> int:
        """Of a scale group; the last may have fewer inputs."""
        return -(-self.group // self.inputs)

    @property
    def cycles(self) -> Mapping[str, int]:
        """Of every step, by the name it has in a trace."""
        a = self.accumulator
        return {
            BUILD: ((1 << self.inputs) - self.inputs - 1) * (self.entry + 1),
            FETCH: self.entry,
            **{add(plane): a - plane + 1 for plane in range(self.activation)},
            CONVERT: a + a * log2_up(a),
            SCALE: _SCALE_MANTISSA**2 + 5 * _SCALE_MANTISSA - 2,
            ACCUMULATE: _MANTISSA * log2_up(_MANTISSA) + _MANTISSA + 1,
        }

    def rows(self, batch: int) -> int:
        """Wordlines of a bitline: weights of a table, table, operands, and per row of x an integer and a float sum."""
        table = (1 << self.inputs) * self.entry
        return self.inputs * self.weight + table + self.entry + batch * (self.accumulator + 32)


@attrs.frozen(eq=False)
class Lookups:
    """Look-ups counted from activations, by batch of rows of x and by table.

    Attributes:
        adds: ``[batches, tables, bits]``: of all patterns but 0, by bit plane.
        reused: ``[batches, tables]``: how many of them find their entry in an operand register.
    """

    adds: NDArray[np.integer]
    reused: NDArray[np.integer]

    def in_groups(self, tables: int) -> Lookups:
        """Added up over the so many tables of each scale group: ``[batches, groups, …]``."""
        batches, every, bits = self.adds.shape
        adds = self.adds.reshape(batches, every // tables, tables, bits)
        return Lookups(adds.sum(axis=2), self.reused.reshape(adds.shape[:3]).sum(axis=2))


def indices(codes: NDArray[np.integer], inputs: int, bits: int) -> NDArray[np.uint8]:
    """Patterns ``[m, tables, bits]`` of two's complement activations ``[m, k]``: k a multiple of ``inputs``, and of
    either at most 8."""
    unsigned = codes.astype(np.uint8)
    together = [np.ascontiguousarray(unsigned[:, i::inputs]) for i in range(inputs)]
    found = np.zeros((bits, *together[0].shape), np.uint8)  # a plane is one piece of memory
    for plane in range(bits):
        for i, one in enumerate(together):
            found[plane] |= (one >> np.uint8(plane) & np.uint8(1)) << np.uint8(i)
    return np.moveaxis(found, 0, -1)


def count(patterns: NDArray[np.integer], batch: int, registers: int) -> Lookups:
    """Count the look-ups of ``[m, tables, bits]`` patterns.

    Rows of x that are worked on together follow each other at a table, bit plane by bit plane. An operand register is
    replaced in turn (first in, first out); all are empty when a table is built.
    """
    m, tables, bits = patterns.shape
    batches = -(-m // batch)
    planes = np.moveaxis(patterns.astype(np.uint8, order="K", copy=False), -1, 0)
    if missing := batches * batch - m:  # rows that are not there look up nothing
        planes = np.pad(planes, ((0, 0), (0, missing), (0, 0)))
    rows = planes.reshape(bits, batches, batch, tables)
    adds = np.zeros((bits, batches, tables), np.int32)
    reused = np.zeros((batches, tables), np.int32)
    held = np.zeros((registers, batches, tables), np.uint8)  # the newest first; 0 is held by none, since never fetched
    for plane in range(bits):
        for row in range(batch):
            wanted = rows[plane, :, row]
            added = wanted != 0
            found = (held == wanted).any(axis=0) & added
            adds[plane] += added
            reused += found
            new = added & ~found
            for register in range(registers - 1, 0, -1):
                np.copyto(held[register], held[register - 1], where=new)
            np.copyto(held[0], wanted, where=new)
    return Lookups(np.moveaxis(adds, 0, -1), reused)
