"""``compute=i8``: sums of int8 activations times codes, exact in int32 (``vpdpbusd``), scaled once a group.

``y[m, n] = Σ_g scale[n, g] · factor[m, g] · S[m, n, g]`` with ``S = Σ_k q[m, k]·(code[n, k] - z[n, g])``.
"""

from __future__ import annotations

from fettle.backends.cpu.gemm.activations import Quantised
from fettle.backends.cpu.gemm.decode import BYTES, step_chunks
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemm.tiles import Arguments, Tiles
from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, load, loop, prefetch, read, splat, store


class IntegerTiles(Tiles):
    """``codes`` are the decoded ones of a slab, ``[block][chunk][64]``, where more than one block of rows reads them;
    ``partial`` the int32 sums between the slabs of a group.
    """

    activations: Quantised

    def __init__(self, plan: GemmPlan, arguments: Arguments, activations: Quantised) -> None:
        super().__init__(plan, arguments, activations)
        if plan.is_split:
            self.partial = T.alloc_buffer((plan.band * plan.panel,), "int32", scope="local")
        if plan.is_staged:
            self.slab_bytes = plan.slab_steps * plan.step_chunks * BYTES
            self.codes = T.alloc_buffer((plan.panel_blocks * self.slab_bytes,), "uint8", scope="local")

    def group(self, group: Expr, index: Expr) -> None:
        if not self.plan.is_split:
            self._slab(group, index, 0, self.plan.packed.steps)
            return
        with self.register_tiles() as (row, block):
            for r, v in self.slots():
                start = self._start(group, index, row + r, block + v)
                store(self.partial, self.place(row + r, block + v), start, LANES)
        for slab, steps in self.slabs():
            self._slab(group, index, slab, steps)
        with self.register_tiles() as (row, block):
            for r, v in self.slots():
                self._add(group, index, row + r, block + v, load(self.partial, self.place(row + r, block + v), LANES))

    def _slab(self, group: Expr, index: Expr, slab: Expr, steps: int) -> None:
        """Add the products of one slab, which has ``steps`` steps, from step ``slab · slab_steps`` of the group."""
        plan = self.plan
        packed = plan.packed
        base, ahead = self.line_base(index, slab), self.ahead
        if plan.is_staged:
            with loop(plan.panel_blocks) as block, loop(steps) as step:
                chunks = step_chunks(plan, self.arguments.weights, base + block * packed.block_bytes, step, ahead)
                for i, chunk in enumerate(chunks):
                    place = block * self.slab_bytes + (step * plan.step_chunks + i) * BYTES
                    store(self.codes, place, chunk, BYTES)
        elif ahead is not None and plan.row_blocks > 1:
            with loop(plan.panel_blocks) as block, loop(steps * packed.planes) as line:
                prefetch(self.arguments.weights, base + block * packed.block_bytes + line * BYTES + ahead)
            ahead = None
        width = steps * plan.step_chunks
        words = self.activations.slab(group, slab) + self.band * plan.band * width
        with self.register_tiles() as (row, block):
            registers = T.alloc_buffer((plan.rows * plan.vectors * LANES,), "int32", scope="local")
            for slot, (r, v) in enumerate(self.slots()):
                if plan.is_split:
                    start = load(self.partial, self.place(row + r, block + v), LANES)
                else:
                    start = self._start(group, index, row + r, block + v)
                store(registers, slot * LANES, start, LANES)
            unroll = plan.unroll if steps % plan.unroll == 0 else 1
            with loop(steps // unroll) as run:
                for u in range(unroll):
                    self._step(registers, base, words + row * width, width, block, run * unroll + u, ahead)
            for slot, (r, v) in enumerate(self.slots()):
                value = read(registers, slot * LANES, LANES)
                if plan.is_split:
                    store(self.partial, self.place(row + r, block + v), value, LANES)
                else:
                    self._add(group, index, row + r, block + v, value)

    def _step(
        self, registers: Buffer, base: Expr, words: Expr, width: int, block: Expr, step: Expr, ahead: int | None
    ) -> None:
        """The products of one step of a register tile."""
        plan = self.plan
        chunks = [self._chunks(base, block + v, step, ahead) for v in range(plan.vectors)]
        for c in range(plan.step_chunks):
            for r in range(plan.rows):
                word = T.Bind(self.activations.values[words + r * width + step * plan.step_chunks + c])
                q = T.Bind(T.reinterpret("int8x64", splat(word, LANES)))
                for v in range(plan.vectors):
                    slot = (r * plan.vectors + v) * LANES
                    store(registers, slot, dot(read(registers, slot, LANES), chunks[v][c], q, LANES), LANES)

    def _chunks(self, base: Expr, block: Expr, step: Expr, ahead: int | None) -> list[Expr]:
        plan = self.plan
        if not plan.is_staged:
            return step_chunks(plan, self.arguments.weights, base + block * plan.packed.block_bytes, step, ahead)
        place = block * self.slab_bytes + step * plan.step_chunks * BYTES
        return [load(self.codes, place + c * BYTES, BYTES) for c in range(plan.step_chunks)]

    # -- one vector of a group's sums

    def _start(self, group: Expr, index: Expr, row: Expr, block: Expr) -> Expr:
        """What the sums of a vector start from: -z·Σq."""
        offset = self.activations.offset[group * self.plan.padded_m + self.band * self.plan.band + row]
        start = splat(offset, LANES)
        if self.arguments.zero_points is not None:
            start = start * T.Cast(f"int32x{LANES}", load(self.arguments.zero_points, index + block * LANES, LANES))
        return start

    def _add(self, group: Expr, index: Expr, row: Expr, block: Expr, value: Expr) -> None:
        """Scale a group's sums and add them."""
        factor = self.activations.factor[group * self.plan.padded_m + self.band * self.plan.band + row]
        scale = self.scale_floats.read(self.arguments.scales, index + block * LANES, LANES)
        place = self.place(row, block)
        scaled = T.Cast(f"float32x{LANES}", value) * splat(factor, LANES)
        store(self.sums, place, read(self.sums, place, LANES) + scale * scaled, LANES)
