"""Where a GEMV lies on devices whose channel has a global buffer of inputs and whose banks have a unit each.

Outputs are spread over banks, then channels: in round r, output group o of problem p is row
``n = (o·C + c)·B + b`` of W in bank b of the c-th of C channels that share a problem and a slice of K. A slice is cut
into chunks that fit the buffer; the weights of (r, o, chunk) lie in one DRAM row of every bank, a *segment*.

    input stationary        for chunk: write buffer; for o: bias, multiply-accumulate the segment, read results
    output stationary       for o: bias; for chunk: write buffer, multiply-accumulate; read results

Partial results of several chunks and slices of K are added by the host.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule, Value
from fettle.backends.pim.bufferspace import INPUT, parameters, textbook
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.preset import Organisation
from fettle.backends.rounding import ceil_div
from fettle.graph.errors import Internal

Ints = NDArray[np.int64]


@attrs.frozen(eq=False)
class Plan:
    """A product under one schedule.

    Attributes:
        share: channels of one (problem, slice); ``slices`` of K; ``at_once`` problems at a time, in ``turns`` rounds.
        slice_k: elements of K in a slice (the last may have fewer), in chunks of ``chunk_k``.
    """

    gemv: Gemv
    org: Organisation
    values: Mapping[str, Value]
    share: int
    slices: int
    at_once: int
    turns: int
    slice_k: int
    chunk_k: int
    first_row: int

    @classmethod
    def of(cls, gemv: Gemv, org: Organisation, schedule: Schedule, prefix: str = "", first_row: int = 0) -> Plan:
        """The plan a schedule's parameters with that prefix describe; weights lie from ``first_row`` on."""
        values = {k.removeprefix(prefix): v for k, v in schedule.values if k.startswith(prefix)}
        slices = int(values["split_k"])
        per_problem = int(values["problem_channels"])
        at_once = min(org.channels // per_problem, gemv.problems)
        unit = max(8 * org.column_bytes // gemv.bits, org.lanes)
        slice_k = ceil_div(ceil_div(gemv.k, slices), unit) * unit
        chunk_k = min(int(values["chunk"]) * org.lanes, slice_k)
        turns = ceil_div(gemv.problems, at_once)
        return cls(gemv, org, values, per_problem // slices, slices, at_once, turns, slice_k, chunk_k, first_row)

    @property
    def outputs(self) -> int:
        """Output groups."""
        return ceil_div(self.gemv.n, self.share * self.org.banks)

    @property
    def chunks(self) -> int:
        """Chunks of a slice."""
        return ceil_div(self.slice_k, self.chunk_k)

    @property
    def per_row(self) -> int:
        """Segments that share a DRAM row."""
        if self.values["placement"] == "row":
            return 1
        return self.org.columns // self.width

    @property
    def rows(self) -> int:
        """The first DRAM row after those used."""
        return self.first_row + ceil_div(self.turns * self.outputs * self.chunks, self.per_row)

    @property
    def width(self) -> int:
        """Columns of a full segment."""
        return self.gemv.columns(self.chunk_k, self.org.column_bytes)

    def chunk_elements(self) -> Ints:
        """``[chunks]`` elements of K: the last chunk of a slice may be short."""
        return np.asarray(np.minimum(self.chunk_k, self.slice_k - self.chunk_k * np.arange(self.chunks)))

    def place(self, turn: Ints, output: Ints, chunk: Ints) -> tuple[Ints, Ints]:
        """(row, first column) of the segments of (round, output group, chunk)."""
        by_input = self.values["placement"] == "by_input"
        at = chunk * self.outputs + output if by_input else output * self.chunks + chunk
        row, slot = np.divmod(turn * self.outputs * self.chunks + at, self.per_row)
        return self.first_row + row, slot * self.width

    def segment_at(self, row: Ints, column: Ints) -> tuple[Ints, Ints, Ints]:
        """The (round, output group, chunk) whose weights begin there; inverts :meth:`place`.

        Raises:
            Internal: no segment begins there.
        """
        slot, within = np.divmod(column, self.width)
        number = (row - self.first_row) * self.per_row + slot
        turn, at = np.divmod(number, self.outputs * self.chunks)
        if within.any() or (slot >= self.per_row).any() or (turn < 0).any() or (turn >= self.turns).any():
            raise Internal("a command multiplies where no segment begins")
        if self.values["placement"] == "by_input":
            chunk, output = np.divmod(at, self.outputs)
        else:
            output, chunk = np.divmod(at, self.chunks)
        return turn, output, chunk

    def groups(self) -> Ints:
        """``[turns]`` how many groups of ``share`` channels work in a round, each on a slice of a problem: the last
        round may have fewer problems."""
        left = self.gemv.problems - self.at_once * np.arange(self.turns)
        return np.asarray(np.minimum(self.at_once, left) * self.slices)

    def masks(self) -> NDArray[np.uint64]:
        """``[turns, outputs]`` channels that work on an output group: the last group may not need all of a share."""
        left = self.gemv.n - self.share * self.org.banks * np.arange(self.outputs)
        used = np.minimum(self.share, -(-left // self.org.banks))
        one = np.array([(1 << int(channels)) - 1 for channels in used], np.uint64)
        firsts = [sum(1 << (group * self.share) for group in range(groups)) for groups in self.groups()]
        return np.multiply.outer(np.array(firsts, np.uint64), one)

    def buffer_column(self, vector: Ints) -> Ints:
        """Where in the buffer the chunk of a row of x begins."""
        return vector % int(self.values["interleave"]) * ceil_div(self.chunk_k, self.org.lanes)

    @property
    def buffer_kept(self) -> bool:
        """Whether an output-stationary mapping writes its only chunk once instead of for every output group."""
        return bool(self.values["keep_buffer"]) and self.chunks == 1

    def counts(self) -> dict[str, int]:
        """In closed form how often what happens: segments and columns multiplied, rows opened, columns fed to a
        channel, cycles that the last channel waits for its inputs after a read, results read."""
        outputs, chunks, m = self.outputs, self.chunks, self.gemv.m
        passes = self.turns * m
        macs = passes * outputs * chunks
        width = ceil_div(self.chunk_k, self.org.lanes)
        if self.values["dataflow"] == INPUT:
            feeds, reads, times = passes * chunks, macs, self.turns * ceil_div(m, int(self.values["interleave"]))
        else:
            feeds, reads, times = passes if self.buffer_kept else macs, passes * outputs, passes
        groups = self.at_once * self.slices
        return {
            "columns": macs * self.width,
            "rows": times * self._rows_in_turn(),
            "segments": macs,
            "fed": feeds * width,
            "waits": 1 + min(feeds, reads) * (groups - 1),
            "reads": reads,
        }

    def _rows_in_turn(self) -> int:
        """Rows opened while all segments of a round are used once, in the order of the dataflow."""
        output, chunk = np.arange(self.outputs)[:, None], np.arange(self.chunks)
        by_input = self.values["placement"] == "by_input"
        rows = (chunk * self.outputs + output if by_input else output * self.chunks + chunk) // self.per_row
        if self.values["dataflow"] == INPUT:
            rows = rows.T
            if self.values["order"] == "serpentine":
                rows[1::2] = rows[1::2, ::-1]
        return 1 + int(np.count_nonzero(np.diff(rows.reshape(-1))))


def most_rows(gemv: Gemv, org: Organisation) -> int:
    """DRAM rows of a bank that the mapping takes that needs the most: the one of the shortest chunks, a row each."""
    chunk = next(p for p in parameters(gemv, org)[0] if p.name == "chunk")
    return Plan.of(gemv, org, Schedule.of(**{**textbook(gemv, org), "chunk": chunk.choices[0]})).rows
