"""A matrix product under one schedule: its tiles, traffic, cycles and energy."""

from __future__ import annotations

from functools import cached_property

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule
from fettle.backends.npu.systolic import folds, program, residency, timeline
from fettle.backends.npu.systolic.demands import Demands
from fettle.backends.npu.systolic.hardware import Systolic, energy_constants
from fettle.backends.npu.systolic.product import ACCUMULATOR_BYTES, Product
from fettle.backends.npu.systolic.tiling import TILES
from fettle.graph.memory.plan import MemoryPlan

Ints = NDArray[np.int64]


@attrs.frozen(eq=False)
class Gemm:
    """A product under one schedule."""

    product: Product
    hardware: Systolic
    schedule: Schedule
    _programs: dict[tuple[int, ...], Ints] = attrs.field(factory=dict, init=False, repr=False)

    @cached_property
    def cost(self) -> folds.Cost:
        return folds.cost(self.hardware, self.schedule["dataflow"], self.product.weight.bits)

    @cached_property
    def shards(self) -> tuple[slice, ...]:
        """What each array of the mesh takes of the split dimension; the last may be short, and arrays may be idle."""
        dimension = self.split
        extent = self.product.extents[dimension] if dimension is not None else 1
        share = -(-extent // self.hardware.arrays)
        return tuple(slice(start, min(start + share, extent)) for start in range(0, extent, share))

    @property
    def split(self) -> int | None:
        """The number of the dimension that is split over the mesh."""
        return "mnk".index(self.schedule["split"]) if self.hardware.arrays > 1 else None

    def steps(self, shard: slice) -> Ints:
        """The program of one array, tiles counted from its shard's beginning."""
        extents = np.array(self.product.extents, np.int64)
        if self.split is not None:
            extents[self.split] = shard.stop - shard.start
        if (key := tuple(extents.tolist())) in self._programs:
            return self._programs[key]
        tile = np.minimum(np.array([self.schedule[name] for name in TILES], np.int64), extents)
        order = np.array(["mnk".index(d) for d in self.schedule["order"]], np.int64)
        cost = self.cost
        one_fold = not cost.lut and cost.folds(tuple(tile.tolist())) == 1
        self._programs[key] = program.tiles(extents, tile, order, one_fold, cost.streamed)
        return self._programs[key]

    # ------------------------------------------------------------------------------------------- traffic

    def traffic(self, steps: Ints) -> Ints:
        """Bytes moved for each step: inputs, weights, sums in, sums out, results out: ``[steps, 5]``."""
        p = self.product
        m = steps[:, program.M1] - steps[:, program.M0]
        n = steps[:, program.N1] - steps[:, program.N0]
        k = steps[:, program.K1] - steps[:, program.K0]
        weights = p.weight_bytes(n, steps[:, program.K0], steps[:, program.K1])
        store = steps[:, program.STORE]
        return np.stack(
            [
                steps[:, program.LOAD_X] * m * k * p.input_bytes,
                steps[:, program.LOAD_W] * weights,
                steps[:, program.LOAD_Y] * m * n * ACCUMULATOR_BYTES,
                (store == program.PARTIAL) * m * n * ACCUMULATOR_BYTES,
                (store == program.RESULT) * m * n * p.output_bytes,
            ],
            axis=1,
        )

    @cached_property
    def resident(self) -> tuple[bool, bool, bool]:
        """Whether inputs, weights and partial sums stay in the memory tier; weights come first."""
        p, left = self.product, 1024 * self.hardware.tier
        sizes = {
            1: int(p.weight_bytes(np.int64(p.n), np.int64(0), np.int64(p.k))),  # type: ignore[arg-type]
            0: p.m * p.k * p.input_bytes,
            2: p.m * p.n * ACCUMULATOR_BYTES,
        }
        kept = [False, False, False]
        for operand, size in sizes.items():
            if size <= left:
                kept[operand] = True
                left -= size
        return kept[0], kept[1], kept[2]

    def from_dram(self, steps: Ints, traffic: Ints) -> Ints:
        """The part of :meth:`traffic` that meets DRAM: what is resident does so once."""
        kept = np.zeros(traffic.shape, bool)
        inputs, weights, sums = self.resident
        kept[:, 0] = inputs & (steps[:, program.AGAIN_X] > 0)
        kept[:, 1] = weights & (steps[:, program.AGAIN_W] > 0)
        kept[:, 2:4] = sums
        return np.where(kept, 0, traffic)

    @cached_property
    def dram_traffic(self) -> Ints:
        """Bytes between DRAM and the chip, whole mesh and batch: inputs, weights, sums in, sums out, results."""
        total = np.zeros(5, np.int64)
        for number, shard in enumerate(self.shards):
            steps = self.steps(shard)
            bytes_ = self.from_dram(steps, self.traffic(steps)).sum(axis=0)
            if number and self.split == 0:
                bytes_[1] = 0  # the weights are sent to all arrays at once
            if number and self.split == 1:
                bytes_[0] = 0
            if number and self.split == 2:
                bytes_[4] = 0  # sums are added up on the way to one array, which stores the results
            total += bytes_
        return self.product.batch * total

    @property
    def dram_bytes(self) -> int:
        """All of :attr:`dram_traffic`."""
        return int(self.dram_traffic.sum())

    @cached_property
    def array_traffic(self) -> Ints:
        """Bytes between scratchpads and arrays, whole mesh and batch: inputs, weights, sums."""
        moved = sum(self._array_traffic(self.steps(shard)).sum(axis=0) for shard in self.shards)
        return self.product.batch * np.asarray(moved, np.int64)

    def _array_traffic(self, steps: Ints) -> Ints:
        """Of each step, ``[steps, 3]``. What is streamed is read for each fold beside it. What stays is read once, and
        not again where the array goes on with it; sums that do not stay leave after each fold along k, and come back
        to be added to."""
        m, n, k = (steps[:, 2 * d + 1] - steps[:, 2 * d] for d in range(3))
        cost = self.cost
        rows = -(-[m, n, k][cost.over_rows] // cost.row_block)
        cols = -(-[m, n, k][cost.over_cols] // cost.col_block)
        fresh, begins = 1 - steps[:, program.CONTINUES], steps[:, program.K0] == 0
        if cost.over_rows == 0:
            reads, left, back = (cols, rows), np.append(fresh[1:], 1), fresh * ~begins
        else:
            reads = (cols, fresh) if cost.over_cols == 1 else (fresh, cols)
            left, back = rows, rows - begins
        inputs, weights = m * k * self.product.input_bytes, -(-n * k * self.product.weight.bits // 8)
        return np.stack([reads[0] * inputs, reads[1] * weights, (left + back) * m * n * ACCUMULATOR_BYTES], axis=1)

    # -------------------------------------------------------------------------------------------- cycles

    def work(self, steps: Ints) -> Ints:
        """Cycles the array works on each step."""
        extents = tuple(steps[:, 2 * d + 1] - steps[:, 2 * d] for d in range(3))
        cycles = self.cost.cycles(extents)  # type: ignore[arg-type]
        going_on = extents[self.cost.streamed] * self.cost.rate
        return np.where(steps[:, program.CONTINUES] > 0, going_on, cycles)

    @cached_property
    def compute_cycles(self) -> int:
        """Cycles one array (the one with most to do) computes without waiting for data, the first counted as 0."""
        return self.product.batch * int(self.work(self.steps(self.shards[0])).sum()) - 1

    def demands(self, steps: Ints) -> Demands:
        """What each step of the first array asks for."""
        traffic = self.traffic(steps)
        dram = self.from_dram(steps, traffic)
        results = (steps[:, program.M1] - steps[:, program.M0]) * (steps[:, program.N1] - steps[:, program.N0])
        finished = (steps[:, program.STORE] == program.RESULT) * results
        vector = finished * self.product.vector_operations
        if self.cost.lut:
            vector += self._table_operations(steps)
        exchanged = self.split == 2 and len(self.shards) > 1
        passed = finished * ACCUMULATOR_BYTES if exchanged else np.zeros(len(steps), np.int64)
        return Demands(dram, traffic - dram, self.work(steps), vector, passed)

    def durations(self, steps: Ints) -> Ints:
        """What each step occupies: DMA, array, vector unit, DMA: ``[steps, 4]`` cycles of the first array."""
        return self.demands(steps).durations(self.hardware, len(self.shards), self.split)

    def _table_operations(self, steps: Ints) -> Ints:
        """Additions that build the tables of each step's inputs; charged to the step that ends an output."""
        inputs = (steps[:, program.M1] - steps[:, program.M0]) * (steps[:, program.K1] - steps[:, program.K0])
        built = steps[:, program.LOAD_X] * -(-inputs // folds.LUT_K) * folds.TABLE_ENTRIES
        waiting = np.cumsum(built)
        ends = steps[:, program.STORE] > 0
        charged: Ints = np.zeros(len(steps), np.int64)
        charged[ends] = np.diff(waiting[ends], prepend=0)
        return charged

    @cached_property
    def events(self) -> Ints:
        """The first array's timeline, see :mod:`timeline`; ``[batch · steps, 4]``."""
        durations = self.durations(self.steps(self.shards[0]))
        double = self.schedule["buffers"] == 2
        return np.asarray(timeline.run(durations, self.product.batch, self.hardware.latency, double))

    @cached_property
    def cycles(self) -> int:
        """From the first transfer to the last result in memory."""
        return int(self.events[-1, timeline.STORED]) + (self.hardware.hops if len(self.shards) > 1 else 0)

    @cached_property
    def residents(self) -> tuple[residency.Tiles, ...]:
        """What lies in the first array's scratchpad when."""
        p, steps = self.product, self.steps(self.shards[0])
        m, n, k = (steps[:, 2 * d + 1] - steps[:, 2 * d] for d in range(3))
        weights = p.weight_bytes(n, steps[:, program.K0], steps[:, program.K1])
        sizes = np.stack([m * k * p.input_bytes, weights, m * n * ACCUMULATOR_BYTES], axis=1)
        load_time = self.durations(steps)[:, timeline.LOAD_TIME]
        repeated = (np.tile(steps, (p.batch, 1)), self.events, np.tile(load_time, p.batch))
        return residency.tiles(
            *repeated, self.hardware.latency, np.tile(sizes, (p.batch, 1)), int(self.schedule["buffers"])
        )

    @cached_property
    def scratchpad(self) -> MemoryPlan:
        """Where it lies."""
        return residency.lay_out(self.residents)

    # -------------------------------------------------------------------------------------------- energy

    @cached_property
    def energy(self) -> float:
        """Joules, from the constants of ``data/energy.json``."""
        c, p = energy_constants(), self.product
        products = p.macs * c["mac"]["i8" if p.weight.is_quantised else p.weight.kind]
        if self.cost.lut:
            products = p.macs / folds.LUT_K * p.weight.bits * c["table_lookup"]
        elif self.cost.rate > 1:
            products = p.macs * p.weight.bits * c["mac_per_weight_bit"]
        link = 0
        filled = p.batch * sum(int(self.traffic(self.steps(shard)).sum()) for shard in self.shards)
        if len(self.shards) > 1:
            passed_on = {0: p.n * p.k, 1: p.m * p.k, 2: p.m * p.n * ACCUMULATOR_BYTES}
            link = (len(self.shards) - 1) * passed_on[self.split or 0]
        results = p.batch * p.m * p.n * p.vector_operations
        picojoules = (
            products
            + (filled + int(self.array_traffic.sum())) * c["sram_byte"]
            + p.batch * link * c["link_byte"]
            + results * c["vector_operation"]
            + self.dram_bytes * c["dram_byte"]
        )
        return 1e-12 * float(picojoules)
