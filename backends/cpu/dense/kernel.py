"""The packed matrix product as TensorIR: a register tile of ``micro_m × micro_n`` inside cache tiles.

Weights are read from panels ``W[b, n // micro_n, k, n % micro_n]``, padded with zeros to whole panels, so that
the innermost loop streams one panel from front to back::

    for task (m tile × n tile)              one of tasks, split over threads
      for k block of tile_k
        [copy of the x tile, rows one after the other]
        [copy of the tile's panels of rhs: ``rhs=blocks``]
        for panel, for micro row            or the other way round: ``inner``
          acc[micro_m, micro_n] in registers, from the task's partial sums after the first block
          for k: acc[i, :] += x[i, k] · W[k, :]
          acc to the partial sums, or finished (epilogue, rounding) to y after the last block

Edges need no padding of x or y: M and N are known, so the last micro row is a smaller register tile of its
own, and the last panel stores only the columns that exist. Where the machine multiplies pairs of bfloat16, k
counts pairs and an element of x and W is a pair. Where it multiplies tiles of them, see ``tiles``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.dense import dots
from fettle.backends.cpu.dense.finish import Finish
from fettle.backends.cpu.dense.geometry import Geometry
from fettle.backends.cpu.dense.loops import Emitter
from fettle.backends.cpu.dense.operands import full_or_rest, pack_panels
from fettle.backends.cpu.dense.tiles import TileEmitter
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Registers, argument, read


def emit(g: Geometry, device: Device) -> Any:
    """The ``PrimFunc`` of a geometry; parameters (x, [rhs], full operands, W, rows, y)."""
    lead = () if g.batch == 1 else (g.batch,)
    panels = (g.batch, g.panels, g.steps, g.micro_n)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("dense")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (*lead, g.m, g.k), Floats(g.act).dtype)
        rhs = None if g.rhs == "constant" else argument("rhs", (*lead, g.k, g.n), Floats(g.right).dtype)
        count = (g.epilogue.rows, g.epilogue.operands) if g.epilogue else (0, 0)
        full = [argument(f"x{i}", (*lead, g.m, g.n), Floats(g.out).dtype) for i in range(count[1])]
        w = argument("w", panels, dots.element(g.pairs)) if rhs is None else rhs
        rows = [argument(f"b{i}", (g.n,), "float32") for i in range(count[0])]
        y = argument("y", (*lead, g.m, g.n), Floats(g.out).dtype)
        with dots.scope(1 if g.has_tiles else g.pairs):
            if g.rhs == "packed":
                w = T.alloc_buffer(panels, g.copied, align=64)
                pack_panels(g, rhs, w)
            emitter = TileEmitter if g.has_tiles else VectorEmitter
            emitter(g, x, w, Finish(g, device, y, rows, full)).tasks()
    return builder.get()


class VectorEmitter(Emitter):
    """Register tiles of vectors."""

    def begin(self) -> None:
        """Registers need nothing."""

    def micro_tile(self, b: Any, row0: Any, panel0: Any, i: Any, j: Any, block: Any, k0: Any, length: Any) -> None:
        g = self.g
        row, panel = row0 + i, panel0 + j
        full, rest = divmod(g.m, g.micro_m)

        def tile(count: int) -> None:
            acc = self._start(i, j, block, count)
            self._accumulate(acc, b, row, i, panel, j, k0, length, count)
            self.in_block(
                block,
                g.k_blocks - 1,
                lambda: self.finish.tile(acc, b, row, panel, count),
                lambda: self._keep(acc, i, j, count),
            )

        def rows() -> None:
            full_or_rest(row, full, rest, lambda: tile(g.micro_m), lambda: tile(rest))

        if g.panels % g.tile_n == 0:
            rows()
        else:
            with T.If(panel < g.panels), T.Then():
                rows()

    def _partial(self, i: Any, j: Any, count: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Every register and where its partial sums are."""
        g = self.g
        for r, v in itertools.product(range(count), range(g.vectors)):
            yield r * g.vectors + v, (i, j, r, T.ramp(v * g.lanes, 1, g.lanes))

    def _start(self, i: Any, j: Any, block: Any, count: int) -> Registers:
        """Zeros in the first block of k, else the partial sums."""
        g = self.g
        acc = Registers(count * g.vectors, "float32", g.lanes)
        if g.k_blocks > 1:
            with T.If(block > 0), T.Then():
                for number, place in self._partial(i, j, count):
                    acc[number] = self.partial[place]
        return acc

    def _keep(self, acc: Registers, i: Any, j: Any, count: int) -> None:
        for number, place in self._partial(i, j, count):
            T.buffer_store(self.partial, acc[number], list(place))

    def _left(self, b: Any, m: Any, k: Any) -> Any:
        """What step ``k`` multiplies of a row of x that was not copied: a number, or the bits of a pair."""
        g = self.g
        if g.pairs == 1:
            return Floats(g.act).read(self.x, g.at(b, m, k), 1)
        return T.reinterpret("int32", self.x[g.at(b, m, T.ramp(2 * k, 1, 2))])

    def _accumulate(
        self, acc: Registers, b: Any, row: Any, i: Any, panel: Any, j: Any, k0: Any, length: Any, count: int
    ) -> None:
        """acc += x · W over one block of k."""
        g = self.g

        in_place = Floats(g.right)  # of a rhs that nothing converted before

        def right(k: Any, column: Any, lanes: int) -> Any:
            buffer, place = self.weights(b, panel, j, k0, k, column)
            return in_place.read(buffer, place, lanes) if g.rhs == "direct" else read(buffer, place, lanes)

        def step(k: Any) -> None:
            if g.prefetch:
                for v in range(0, g.micro_n, 16):
                    buffer, place = self.weights(b, panel, j, k0, k + g.prefetch, v)
                    ahead = T.address_of(buffer[place])
                    T.evaluate(T.call_intrin("void", "tirx.prefetch", ahead, 0, 3, 1))
            weights = [right(k, v * g.lanes, g.lanes) for v in range(g.vectors)]
            for r in range(count):
                m = row * g.micro_m + r
                value = self.copy[i * g.micro_m + r, k] if g.copies_x else self._left(b, m, k0 + k)
                for v in range(g.vectors):
                    number = r * g.vectors + v
                    acc[number] = dots.multiply_add(acc[number], value, weights[v], g.lanes, g.pairs)

        whole = length // g.unroll_k
        with T.serial(0, whole) as outer:
            for u in range(g.unroll_k):
                step(outer * g.unroll_k + u)
        if g.block % g.unroll_k or g.steps % g.unroll_k:
            with T.serial(0, length - whole * g.unroll_k) as left:
                step(whole * g.unroll_k + left)
