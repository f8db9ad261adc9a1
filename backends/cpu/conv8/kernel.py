"""The convolution of codes as TensorIR::

    for thread, for its tasks (image, group of channels × band of rows × tile of output channels)
      copy the band as words of four codes, with its padding
      for panel of output channels, for register tile along the run                  or the other way round: ``inner``
        acc[micro_oc, vectors] from what the zero point takes off
        for word, for tap: acc[o, :] += four products of W[word, tap, o] with plane[word][position + shift(tap) …]
        finish acc, as elements of the result in the order of the run
      of each output channel, the rows of those elements to y

Weights are words ``W[panel, word, tap, micro_oc]``. The sum of all weights of an output channel times the zero point is
what codes are too large by, in the padding too, since that holds the zero point. The last band ends where the image
does: it computes a second time what its neighbour does too.
"""

from __future__ import annotations

import itertools
from typing import Any

from tvm.script.ir_builder import IRBuilder

from fettle.backends.api import Device
from fettle.backends.cpu.conv8.copies import Words, copy
from fettle.backends.cpu.conv8.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, argument, load, loop, parallel, splat, store
from fettle.backends.cpu.integers.dots import add_products
from fettle.backends.cpu.integers.finish import DTYPES, finish
from fettle.backends.cpu.rows.vectors import Vectors

_UNROLLED_TAPS = 9
"""Filters up to this size are unrolled whole, larger ones a row at a time, wider ones not at all."""


def emit(plan: Plan, device: Device) -> Any:
    """The ``PrimFunc`` of a plan; parameters (x, zero, W, sums of W, rows, y), zero only where x has one."""
    g = plan.grid
    images, channels = g.n // g.group, g.group * g.oc
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("conv2d")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (images, g.group * plan.channels, g.h, g.w), DTYPES[plan.act])
        zero = argument("zero", (1,), DTYPES[plan.act]) if plan.has_zero else None
        weights = argument("w", (g.group * g.panels, g.c, g.taps, g.micro_oc), "int32")
        taken = argument("sums", (channels,), "int32")
        rows = [argument(f"b{i}", (channels,), "float32") for i in range(g.epilogue.rows if g.epilogue else 0)]
        y = argument("y", (images, channels, g.rows, g.columns), DTYPES[plan.out])
        y = T.decl_buffer((g.n * g.oc * g.rows * g.columns,), DTYPES[plan.out], data=y.data, align=1)
        x = _bytes(x, (g.n, plan.channels, g.h * g.w))
        zero = None if zero is None else _bytes(zero, (1,))
        with parallel(g.threads) as thread:
            _Thread(plan, Vectors(device), x, zero, weights, taken, rows, y).tasks(thread)
    return builder.get()


def _bytes(buffer: Buffer, shape: tuple[int, ...]) -> Buffer:
    """The same memory as unsigned bytes."""
    return T.decl_buffer(shape, "uint8", data=buffer.data, align=1)


class _Thread:
    """What one thread does, with its own buffers."""

    def __init__(
        self,
        plan: Plan,
        vectors: Vectors,
        x: Buffer,
        zero: Buffer | None,
        weights: Buffer,
        taken: Buffer,
        rows: list[Buffer],
        y: Buffer,
    ) -> None:
        self.plan, self.vectors = plan, vectors
        self.weights, self.taken, self.rows, self.y = weights, taken, rows, y
        self.zero = T.uint8(0) if zero is None else zero[0]
        self.words = Words(plan, x, self.zero)
        g = plan.grid
        self.run = g.groups * g.micro_n
        self.results = T.alloc_buffer((plan.held * g.micro_oc * self.run,), DTYPES[plan.out], align=64)

    def tasks(self, thread: Expr) -> None:
        """All tasks of a thread."""
        g = self.plan.grid
        with T.serial(0, T.min(g.share, g.tasks - T.min(thread * g.share, g.tasks))) as number:
            task = thread * g.share + number
            image, rest = task // (g.bands * g.oc_tiles), task % (g.bands * g.oc_tiles)
            row0 = T.Bind(T.min(rest // g.oc_tiles * g.tile_h, g.rows - g.tile_h))
            panel0 = rest % g.oc_tiles * g.tile_oc
            self.words.copy(image, row0)
            self._panels(image, row0, panel0)

    def _panels(self, image: Expr, row0: Expr, panel0: Expr) -> None:
        """A task's panels of output channels, once its words are there."""
        g = self.plan.grid
        if g.weights_inside:
            with loop(g.groups) as group, loop(g.tile_oc) as i, T.If(panel0 + i < g.panels), T.Then():
                self._micro_tile(image, group, panel0 + i, i * g.micro_oc)
            with loop(g.tile_oc) as i:
                self._write(image, row0, panel0 + i, i * g.micro_oc)
            return
        with loop(g.tile_oc) as i, T.If(panel0 + i < g.panels), T.Then():
            with loop(g.groups) as group:
                self._micro_tile(image, group, panel0 + i, 0)
            self._write(image, row0, panel0 + i, 0)

    def _of_group(self, image: Expr, count: int) -> Expr:
        """Where a group's share begins among ``count`` things of each group."""
        return image % self.plan.grid.group * count if self.plan.grid.group > 1 else 0

    def _micro_tile(self, image: Expr, group: Expr, panel: Expr, held: Expr) -> None:
        """A register tile of a panel: its results to row ``held`` … of the kept ones."""
        g = self.plan.grid
        slots = list(enumerate(itertools.product(range(g.micro_oc), range(g.vectors))))
        acc = Registers(len(slots), "int32", g.lanes, zeroed=False)
        channel = T.Bind(panel * g.micro_oc)
        # beyond the last channel, panels have weights of zero and results that nobody reads
        channels = [self._of_group(image, g.oc) + T.min(channel + o, g.oc - 1) for o in range(g.micro_oc)]
        for slot, (o, _) in slots:
            acc[slot] = splat(self._start(channels[o]), g.lanes)
        filters = self._of_group(image, g.panels) + panel
        with loop(g.c) as word:
            start = word * g.channel + group * g.micro_n
            self._taps(acc, filters, word, start)
        for slot, (o, v) in slots:
            rows = [self.vectors.spread(row[channels[o]]) for row in self.rows]
            value = finish(self.vectors, acc[slot], g.epilogue, rows, self.plan.out)
            store(self.results, (held + o) * self.run + group * g.micro_n + v * g.lanes, value, g.lanes)

    def _start(self, channel: Expr) -> Expr:
        """What sums of a channel start from."""
        if not (self.plan.has_zero or self.plan.offset):
            return T.int32(0)
        zero = T.Cast("int32", T.bitwise_xor(self.zero, T.uint8(self.plan.offset)))
        return -(zero * self.taken[channel])

    def _taps(self, acc: Registers, filters: Expr, word: Expr, start: Expr) -> None:
        g = self.plan.grid

        def tap(r: Expr, s: Expr) -> None:
            place = start + self._shift(r, s)
            codes = [load(self.words.planes, place + v * g.lanes, g.lanes) for v in range(g.vectors)]
            for o in range(g.micro_oc):
                weights = splat(T.Bind(self.weights[filters, word, r * g.kw + s, o]), g.lanes)
                for v in range(g.vectors):
                    slot = o * g.vectors + v
                    acc[slot] = add_products(acc[slot], codes[v], weights, g.lanes, self.plan.dot)

        if g.taps <= _UNROLLED_TAPS:
            for r, s in itertools.product(range(g.kh), range(g.kw)):
                tap(r, s)
            return
        with loop(g.kh) as row:
            if g.kw <= _UNROLLED_TAPS:
                for s in range(g.kw):
                    tap(row, s)
            else:
                with loop(g.kw) as column:
                    tap(row, column)

    def _shift(self, r: Expr, s: Expr) -> Expr:
        """Where the words of tap (r, s) for the first output element lie in the planes."""
        g = self.plan.grid
        (down, across), row, column = g.stride, r * g.dilation[0], s * g.dilation[1]
        plane = row % down * g.column_phases + column % across
        return (plane * g.plane_rows + row // down) * g.plane_columns + column // across

    def _write(self, image: Expr, row0: Expr, panel: Expr, held: Expr) -> None:
        """A panel's results to y; its rows are one where nothing lies between them."""
        g = self.plan.grid
        whole = g.plane_columns == g.columns
        rows, columns = (1, g.tile_h * g.columns) if whole else (g.tile_h, g.columns)
        size = 1 if self.plan.out in ("u8", "i8") else 4
        with loop(g.micro_oc) as o, T.If(panel * g.micro_oc + o < g.oc), T.Then(), loop(rows) as row:
            channel = image * g.oc + panel * g.micro_oc + o
            target = (channel * g.rows + row0 + row) * g.columns
            source = (held + o) * self.run + row * g.plane_columns
            copy(self.y, target, lambda offset, lanes: load(self.results, source + offset, lanes), columns, size)
