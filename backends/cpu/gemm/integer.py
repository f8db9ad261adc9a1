"""``algorithm=vnni``: register tiles of ``vpdpbusd``, whose sums start from what the zero points take off."""

from __future__ import annotations

from fettle.backends.cpu.gemm.activations import Quantised
from fettle.backends.cpu.gemm.codes import CodeTiles
from fettle.backends.cpu.gemm.decode import BYTES, step_chunks
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import Expr, Registers, T, load, loop, splat, store


class IntegerTiles(CodeTiles):
    """``partial`` are the int32 sums between the slabs of a group."""

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Quantised) -> None:
        super().__init__(plan, arguments, activations)
        if plan.is_split:
            self.partial = T.alloc_buffer((plan.band * plan.panel,), "int32", scope="local")

    def group(self, group: Expr, index: Expr) -> None:
        if not self.plan.is_split:
            self._slab(group, index, 0, self.plan.packed.steps)
            return
        with self.register_tiles() as (row, block):
            for r, v in self.slots():
                start = self.offset(group, index, row + r, block + v)
                store(self.partial, self.place(row + r, block + v), start, LANES)
        for slab, steps in self.slabs():
            self._slab(group, index, slab, steps)
        with self.register_tiles() as (row, block):
            for r, v in self.slots():
                self.add(group, index, row + r, block + v, load(self.partial, self.place(row + r, block + v), LANES))

    def _slab(self, group: Expr, index: Expr, slab: Expr, steps: int) -> None:
        """Add the products of one slab, which has ``steps`` steps, from step ``slab · slab_steps`` of the group."""
        plan = self.plan
        ahead = self.ahead
        if plan.is_staged:
            self.stage(index, slab, steps)
        elif plan.row_blocks > 1:
            self.ask_ahead(index, slab, steps)
            ahead = None
        width = steps * plan.step_chunks
        words = self.activations.slab(group, slab) + self.band * plan.band * width
        with self.register_tiles() as (row, block):
            registers = Registers(plan.rows * plan.vectors, "int32", LANES, zeroed=False)
            for slot, (r, v) in enumerate(self.slots()):
                if plan.is_split:
                    start = load(self.partial, self.place(row + r, block + v), LANES)
                else:
                    start = self.offset(group, index, row + r, block + v)
                registers[slot] = start
            lines = [] if plan.is_staged else [self.lines(index, slab, block + v) for v in range(plan.vectors)]
            unroll = plan.unroll if steps % plan.unroll == 0 else 1
            with loop(steps // unroll) as run:
                for u in range(unroll):
                    self._step(registers, lines, words + row * width, width, block, run * unroll + u, ahead)
            for slot, (r, v) in enumerate(self.slots()):
                value = registers[slot]
                if plan.is_split:
                    store(self.partial, self.place(row + r, block + v), value, LANES)
                else:
                    self.add(group, index, row + r, block + v, value)

    def _step(
        self,
        registers: Registers,
        lines: list[Expr],
        words: Expr,
        width: int,
        block: Expr,
        step: Expr,
        ahead: int | None,
    ) -> None:
        """The products of one step of a register tile, whose codes are staged or decoded from ``lines`` here."""
        plan = self.plan
        if plan.is_staged:
            chunks = [self._staged(block + v, step) for v in range(plan.vectors)]
        else:
            chunks = [step_chunks(plan, self.arguments.weights, first, step, ahead) for first in lines]
        for c in range(plan.step_chunks):
            for r in range(plan.rows):
                word = T.Bind(self.activations.values[words + r * width + step * plan.step_chunks + c])
                q = T.Bind(T.reinterpret("int8x64", splat(word, LANES)))
                for v in range(plan.vectors):
                    slot = r * plan.vectors + v
                    registers[slot] = dot(registers[slot], chunks[v][c], q, LANES)

    def _staged(self, block: Expr, step: Expr) -> list[Expr]:
        plan = self.plan
        place = block * self.slab_bytes + step * plan.step_chunks * BYTES
        return [load(self.codes, place + c * BYTES, BYTES) for c in range(plan.step_chunks)]
