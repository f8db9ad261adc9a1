"""GEMV on devices whose units have register files (HBM-PIM): 8 input and 8 accumulator registers of 16 lanes each.

A tile is 128 inputs times 8 outputs of every unit: 8 input registers are written to all units, then 64 columns are
multiplied lane by lane; column ``8·g + i`` of a tile holds the weights of input burst g and output i. Even tiles of K
lie in the even bank of a unit, odd ones in the odd bank. Lanes are added up by whoever reads the results, which stay
in the banks, as PIMSimulator's kernel leaves them. In the all-bank modes the controller sees banks 0 and 1 only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import attrs
import numpy as np

from fettle.backends.api import Parameter, Schedule, Value
from fettle.backends.pim.bufferspace import INPUT, OUTPUT
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.mapping import Array
from fettle.backends.pim.modes import REGISTER_ROW, enter, leave, toggle
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import Builder, Program
from fettle.backends.rounding import ceil_div
from fettle.graph.errors import Internal


def parameters() -> list[Parameter]:
    """``dataflow``: keep accumulators or inputs. ``tiles``: all even tiles first, or even and odd ones in turns.
    ``placement``: a tile in one bank of a unit, or half of it in each. ``register_bank``: write registers through the
    odd bank, or through the one that is not read next. ``prefetch``: while the last columns of a row are read, open
    the row of the other bank that comes next."""
    return [
        Parameter("dataflow", (OUTPUT, INPUT)),
        Parameter("tiles", ("even_first", "in_turns")),
        Parameter("placement", ("bank", "halves")),
        Parameter("register_bank", ("odd", "other")),
        Parameter("prefetch", (False, True)),
    ]


class Access(NamedTuple):
    """Consecutive columns of a row, in one bank of every unit or its registers."""

    name: str
    bank: int
    row: int
    column: int
    columns: int


@attrs.frozen(eq=False)
class Plan:
    """A product under one schedule."""

    gemv: Gemv
    org: Organisation
    values: Mapping[str, Value]

    @classmethod
    def of(cls, gemv: Gemv, org: Organisation, schedule: Schedule) -> Plan:
        """The plan of a schedule."""
        return cls(gemv, org, schedule.as_dict())

    @property
    def tile_k(self) -> int:
        return self.org.buffer_columns * self.org.lanes

    @property
    def tile_n(self) -> int:
        return self.org.accumulators * self.org.units * self.org.channels

    @property
    def tiles(self) -> tuple[int, int]:
        """Output tiles, input tiles."""
        return ceil_div(self.gemv.n, self.tile_n), ceil_div(self.gemv.k, self.tile_k)

    @property
    def tile_columns(self) -> int:
        return self.org.buffer_columns * self.org.accumulators

    @property
    def in_halves(self) -> bool:
        return self.values["placement"] == "halves"

    def parts(self, problem: int, j: int, t: int) -> list[tuple[int, int]]:
        """(bank, first column counted over rows) of the parts of a tile, all of ``part_columns``, in order."""
        outputs, inputs = self.tiles
        if self.in_halves:
            at = ((problem * outputs + j) * inputs + t) * self.part_columns
            return [(t % 2, at), (1 - t % 2, at)]
        return [(t % 2, ((problem * outputs + j) * ceil_div(inputs, 2) + t // 2) * self.part_columns)]

    @property
    def part_columns(self) -> int:
        return self.tile_columns // 2 if self.in_halves else self.tile_columns

    def results(self, number: int) -> int:
        """First column of the ``number``-th tile of results, behind all weights in the odd bank."""
        outputs, inputs = self.tiles
        weights = self.gemv.problems * outputs * ceil_div(inputs, 2) * self.tile_columns
        return weights + number * self.org.accumulators

    @property
    def rows(self) -> int:
        """DRAM rows used in a bank."""
        outputs, inputs = self.tiles
        per_output = inputs if self.values["dataflow"] == INPUT else 1
        last = self.results(self.gemv.problems * self.gemv.m * outputs * per_output)
        return ceil_div(last, self.org.columns)

    def passes(self) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
        """(problem, row of x, tiles (output, input)) between two clearings of the accumulators."""
        outputs, inputs = self.tiles
        order = list(range(inputs))
        if self.values["tiles"] == "even_first":
            order = [*range(0, inputs, 2), *range(1, inputs, 2)]
        for problem in range(self.gemv.problems):
            if self.values["dataflow"] == OUTPUT:
                for j in range(outputs):
                    for b in range(self.gemv.m):
                        yield problem, b, [(j, t) for t in order]
            else:
                for b in range(self.gemv.m):
                    for t in order:
                        for j in range(outputs):
                            yield problem, b, [(j, t)]

    def emit(self, builder: Builder) -> None:
        """Append the commands."""
        org, width = self.org, self.org.buffer_columns
        enter(builder, org, 1)
        held: tuple[int, int, int] | None = None
        for number, (problem, b, tiles) in enumerate(self.passes()):
            toggle(builder)
            accesses: list[Access] = []
            for j, t in tiles:
                parts = self.parts(problem, j, t)
                if held != (problem, b, t):
                    bank = 1 if self.values["register_bank"] == "odd" else 1 - parts[0][0]
                    accesses.append(Access("WRREG", bank, REGISTER_ROW, 8, width))
                    held = (problem, b, t)
                for bank, first in parts:
                    for column in range(first, first + self.part_columns, width):
                        row, place = divmod(column, org.columns)
                        accesses.append(Access("MACH", bank, row, place, width))
            self._append(builder, accesses)
            row, place = divmod(self.results(number), org.columns)
            builder.add("WRH", bank=1, row=row, column=place, count=org.accumulators)
            toggle(builder)
        leave(builder)

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

    def compute(self, program: Program, x: Array, weight: Array) -> Array:
        """Execute the multiply-accumulates of a program and add up what it leaves in the banks.

        Args:
            x: ``[problems, m, k]`` float32.
            weight: ``[problems, n, k]`` float32.

        Returns:
            ``[problems, m, n]`` float32.
        """
        gemv, org = self.gemv, self.org
        outputs, inputs = self.tiles
        width = self.part_columns
        stored = {
            place: (p, j, t)
            for p in range(gemv.problems)
            for j in range(outputs)
            for t in range(inputs)
            for place in self.parts(p, j, t)
        }
        result = np.zeros((gemv.problems, gemv.m, gemv.n), np.float32)
        names = [program.names[i] for i in program.operations.tolist()]
        addresses = (program.rows.astype(np.int64) * org.columns + program.columns).tolist()
        places = zip(names, program.banks.tolist(), addresses, program.counts.tolist(), strict=True)
        passes = self.passes()
        problem, b, _ = next(passes)
        lanes = np.zeros((outputs * self.tile_n, org.lanes), np.float32)
        done: Counter[tuple[int, int, int]] = Counter()  # columns of each tile
        for name, bank, address, count in places:
            if name == "MACH":
                done[stored[bank, address // width * width]] += count
            elif name == "WRH":
                for (p, j, t), columns in done.items():
                    if columns != self.tile_columns or p != problem:
                        raise Internal("a tile of weights was not read whole")
                    self._multiply(lanes, weight[p], x[p, b], j, t)
                for j in {j for _, j, _ in done}:
                    rows = slice(j * self.tile_n, min((j + 1) * self.tile_n, gemv.n))
                    result[problem, b, rows] += gemv.leaving(lanes[rows]).sum(axis=1)
                lanes[:] = 0.0
                done.clear()
                problem, b, _ = next(passes, (0, 0, []))
        return result

    def _multiply(self, lanes: Array, weight: Array, x: Array, j: int, t: int) -> None:
        """Add the products of a tile to its outputs, lane by lane."""
        rows = slice(j * self.tile_n, min((j + 1) * self.tile_n, self.gemv.n))
        start, stop = t * self.tile_k, min((t + 1) * self.tile_k, self.gemv.k)
        width = self.org.lanes
        whole = start + (stop - start) // width * width
        if whole > start:
            part = weight[rows, start:whole].reshape(rows.stop - rows.start, -1, width)
            lanes[rows] += np.einsum("nkl,kl->nl", part, x[start:whole].reshape(-1, width))
        if stop > whole:
            lanes[rows, : stop - whole] += weight[rows, whole:stop] * x[whole:stop]
