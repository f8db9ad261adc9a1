"""GEMV on devices whose units have register files (HBM-PIM): 8 input and 8 accumulator registers of 16 lanes each.

A tile is 128 inputs times 8 outputs of every unit: 8 input registers are written to all units, then 64 columns are
multiplied lane by lane; column ``8·g + i`` of a tile holds the weights of input burst g and output i. Even tiles of K
lie in the even bank of a unit, odd ones in the odd bank. Lanes are added up by whoever reads the results, which stay
in the banks, as PIMSimulator's kernel leaves them. In the all-bank modes the controller sees banks 0 and 1 only.

Channels do the same at the same time, each with inputs and weights of its own: of a batch of products, channels share
one (``problem_channels``), or a slice of its K each (``split_k``), whose sums are added up with the lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import attrs
import numpy as np

from fettle.backends.api import Parameter, Schedule, Space, Value
from fettle.backends.pim.bufferspace import INPUT, OUTPUT
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.modes import REGISTER_ROW, enter, leave, toggle
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import SYNC, Builder
from fettle.backends.pim.registerspace import parameters
from fettle.backends.rounding import ceil_div
from fettle.backends.spaces import enumerate_space


class Access(NamedTuple):
    """Consecutive columns of a row, in one bank of every unit or its registers."""

    name: str
    bank: int
    row: int
    column: int
    columns: int


@attrs.frozen(eq=False)
class Plan:
    """A product under one schedule.

    Attributes:
        share: channels of one (problem, slice); ``slices`` of K; ``at_once`` problems at a time, in ``turns`` rounds.
        first_row: of the weights, which lie from there on.
    """

    gemv: Gemv
    org: Organisation
    values: Mapping[str, Value]
    share: int
    slices: int
    at_once: int
    first_row: int

    @classmethod
    def of(cls, gemv: Gemv, org: Organisation, schedule: Schedule, prefix: str = "", first_row: int = 0) -> Plan:
        """The plan a schedule's parameters with that prefix describe."""
        values = {k.removeprefix(prefix): v for k, v in schedule.values if k.startswith(prefix)}
        slices, per_problem = int(values["split_k"]), int(values["problem_channels"])
        at_once = min(org.channels // per_problem, gemv.problems)
        return cls(gemv, org, values, per_problem // slices, slices, at_once, first_row)

    @property
    def turns(self) -> int:
        return ceil_div(self.gemv.problems, self.at_once)

    @property
    def tile_k(self) -> int:
        return self.org.buffer_columns * self.org.lanes

    @property
    def tile_n(self) -> int:
        return self.org.accumulators * self.org.units * self.share

    @property
    def slice_k(self) -> int:
        """Elements of K in a slice, with zeros behind K: whole tiles, of the only slice whole bursts."""
        unit = self.tile_k if self.slices > 1 else self.org.lanes
        return ceil_div(ceil_div(self.gemv.k, self.slices), unit) * unit

    @property
    def tiles(self) -> tuple[int, int]:
        """Output tiles, input tiles of a slice."""
        return ceil_div(self.gemv.n, self.tile_n), ceil_div(self.slice_k, self.tile_k)

    def outputs_of(self, j: int) -> slice:
        """Of an output tile, as they are counted in a problem."""
        return slice(j * self.tile_n, min((j + 1) * self.tile_n, self.gemv.n))

    @property
    def tile_columns(self) -> int:
        return self.org.buffer_columns * self.org.accumulators

    @property
    def result_columns(self) -> int:
        """Of a tile of results, an accumulator each; of float32 sums two."""
        return self.org.accumulators * (2 if self.gemv.wide else 1)

    @property
    def in_halves(self) -> bool:
        return self.values["placement"] == "halves"

    def parts(self, turn: int, j: int, t: int) -> list[tuple[int, int]]:
        """(bank, first column counted over rows) of the parts of a tile, all of ``part_columns``, in order."""
        outputs, inputs = self.tiles
        first = self.first_row * self.org.columns
        if self.in_halves:
            at = first + ((turn * outputs + j) * inputs + t) * self.part_columns
            return [(t % 2, at), (1 - t % 2, at)]
        return [(t % 2, first + ((turn * outputs + j) * ceil_div(inputs, 2) + t // 2) * self.part_columns)]

    @property
    def part_columns(self) -> int:
        return self.tile_columns // 2 if self.in_halves else self.tile_columns

    def results(self, number: int) -> int:
        """First column of the ``number``-th tile of results, behind all weights in the odd bank."""
        outputs, inputs = self.tiles
        weights = self.turns * outputs * ceil_div(inputs, 2) * self.tile_columns
        return self.first_row * self.org.columns + weights + number * self.result_columns

    @property
    def result_tiles(self) -> int:
        """How often accumulators are written into the banks."""
        outputs, inputs = self.tiles
        return self.turns * self.gemv.m * outputs * (inputs if self.values["dataflow"] == INPUT else 1)

    @property
    def rows(self) -> int:
        """The first DRAM row after those used."""
        return ceil_div(self.results(self.result_tiles), self.org.columns)

    def passes(self) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """(round, row of x, tiles (output, input)) between two clearings of the accumulators."""
        outputs, inputs = self.tiles
        order = list(range(inputs))
        if self.values["tiles"] == "even_first":
            order = [*range(0, inputs, 2), *range(1, inputs, 2)]
        for turn in range(self.turns):
            if self.values["dataflow"] == OUTPUT:
                for j in range(outputs):
                    for b in range(self.gemv.m):
                        yield turn, b, [(j, t) for t in order]
            else:
                for b in range(self.gemv.m):
                    for t in order:
                        for j in range(outputs):
                            yield turn, b, [(j, t)]

    def emit(self, builder: Builder) -> slice:
        """Append the commands; returns which instructions they are."""
        org, width = self.org, self.org.buffer_columns
        start = len(builder)
        enter(builder, org, 1)
        held: tuple[int, int, int] | None = None
        for number, (turn, b, tiles) in enumerate(self.passes()):
            toggle(builder)
            accesses: list[Access] = []
            for j, t in tiles:
                parts = self.parts(turn, j, t)
                if held != (turn, b, t):
                    bank = 1 if self.values["register_bank"] == "odd" else 1 - parts[0][0]
                    accesses.append(Access("WRREG", bank, REGISTER_ROW, 8, width))
                    held = (turn, b, t)
                for bank, first in parts:
                    for column in range(first, first + self.part_columns, width):
                        row, place = divmod(column, org.columns)
                        accesses.append(Access("MACH", bank, row, place, width))
            self._append(builder, accesses)
            row, place = divmod(self.results(number), org.columns)
            builder.add("WRH", bank=1, row=row, column=place, count=self.result_columns)
            toggle(builder)
        leave(builder)
        return slice(start, len(builder))

    def read_results(self, builder: Builder) -> None:
        """Append what the host reads, bank by bank as any memory, once the units are done: all that they left."""
        org = self.org
        builder.add(SYNC)
        per_unit = org.banks // org.units
        odd = np.arange(per_unit - 1, org.banks, per_unit).reshape(org.bank_groups, -1).T.reshape(-1)
        at, bank = np.divmod(np.arange(self.result_tiles * self.result_columns * len(odd)), len(odd))
        row, column = np.divmod(self.results(0) + at, org.columns)
        builder.extend(("RD",), np.zeros(len(at), np.int64), bank=odd[bank], row=row, column=column)

    def _append(self, builder: Builder, accesses: list[Access]) -> None:
        """Accesses between two barriers each, and with ``prefetch`` the rows opened ahead of them."""
        ahead = 0  # banks (a bit each) whose row was opened ahead and not used yet
        for i, access in enumerate(accesses):
            name, bank, row, column, count = access
            ahead &= ~(1 << bank)
            coming = self._coming(accesses, i) if self.values["prefetch"] and count > 1 else None
            if coming is None or ahead:
                builder.add(name, bank=bank, row=row, column=column, count=count, hold=ahead | 1 << bank)
                continue
            ahead = 1 << coming.bank
            # If the other bank was in use just now, its row closes behind the first columns.
            first = count - 2 if i > 0 and accesses[i - 1].bank == coming.bank else 1
            builder.add(name, bank=bank, row=row, column=column, count=first)
            builder.add("ACTH", bank=coming.bank, row=coming.row, hold=3)
            builder.add(name, bank=bank, row=row, column=column + first, count=count - first, hold=3)

    @staticmethod
    def _coming(accesses: list[Access], i: int) -> Access | None:
        """The access after the present row's last one, or after the registers that follow it, if in the other bank."""
        for access in accesses[i + 1 : i + 3]:
            if access.bank != accesses[i].bank:
                return access
            if access.name == "MACH":
                return None
        return None


def most_rows(gemv: Gemv, org: Organisation) -> int:
    """DRAM rows of a bank that the mapping takes that needs the most."""
    found, rules = parameters(gemv, org)
    found = [
        p if p.name in ("dataflow", "split_k", "problem_channels") else Parameter(p.name, p.choices[:1]) for p in found
    ]
    points = enumerate_space(Space(tuple(found), tuple(rules)))
    return max(Plan.of(gemv, org, points[i]).rows for i in range(points.size))
