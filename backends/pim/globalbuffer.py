"""GEMV on devices whose channel has a global buffer of inputs and whose banks have a unit with an accumulator each.

Outputs are spread over banks, then channels: in round r, output group o of problem p is row
``n = (o·C + c)·B + b`` of W in bank b of the c-th of C channels that share a problem and a slice of K. A slice is cut
into chunks that fit the buffer; the weights of (r, o, chunk) lie in one DRAM row of every bank, a *segment*.

    input stationary        for chunk: write buffer; for o: bias, multiply-accumulate the segment, read results
    output stationary       for o: bias; for chunk: write buffer, multiply-accumulate; read results

Partial results of several chunks and slices of K are added by the host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import attrs
import numpy as np

from fettle.backends.api import Schedule, Value
from fettle.backends.pim.bufferspace import INPUT
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.mapping import Array, ceil_div
from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import HOST, Builder, Program


@attrs.frozen
class Segment:
    """Weights of (round, output group, chunk) in every bank: a DRAM row, from ``column`` on."""

    turn: int
    output: int
    chunk: int
    row: int
    column: int
    count: int


class Note(NamedTuple):
    """What an instruction is for: ``feed`` (write the buffer), ``bias``, ``mac``, ``read``; ``vector``: a row of x."""

    what: str
    turn: int
    vector: int
    output: int
    chunk: int


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
        return self.org.columns // self.gemv.columns(self.chunk_k, self.org.column_bytes)

    @property
    def rows(self) -> int:
        """The first DRAM row after those used."""
        return self.first_row + ceil_div(self.turns * self.outputs * self.chunks, self.per_row)

    @cached_property
    def segments(self) -> dict[tuple[int, int, int], Segment]:
        """(round, output group, chunk) -> where it lies."""
        outputs, chunks, placement = self.outputs, self.chunks, self.values["placement"]
        width, per_row = self.gemv.columns(self.chunk_k, self.org.column_bytes), self.per_row
        found = {}
        for turn in range(self.turns):
            for o in range(outputs):
                for c in range(chunks):
                    place = c * outputs + o if placement == "by_input" else o * chunks + c
                    row, slot = divmod(turn * outputs * chunks + place, per_row)
                    k = min(self.chunk_k, self.slice_k - c * self.chunk_k)
                    count = self.gemv.columns(k, self.org.column_bytes)
                    found[turn, o, c] = Segment(turn, o, c, self.first_row + row, slot * width, count)
        return found

    def groups(self, turn: int) -> Iterator[tuple[int, int, int]]:
        """(problem, slice, first channel) of the channel groups that work in a round."""
        for problem in range(turn * self.at_once, min((turn + 1) * self.at_once, self.gemv.problems)):
            for s in range(self.slices):
                yield problem, s, ((problem % self.at_once) * self.slices + s) * self.share

    def mask(self, turn: int, output: int | None = None) -> int:
        """Channels that work in a round, on one output group if given: the last one may not need all."""
        used = self.share
        if output is not None:
            left = self.gemv.n - output * self.share * self.org.banks
            used = min(used, ceil_div(left, self.org.banks))
        return sum(((1 << used) - 1) << first for _, _, first in self.groups(turn))

    def steps(self) -> Iterator[Note]:
        """What happens in which order."""
        m, interleave = self.gemv.m, int(self.values["interleave"])
        for turn in range(self.turns):
            for first in range(0, m, interleave):
                vectors = range(first, min(first + interleave, m))
                if self.values["dataflow"] == INPUT:
                    yield from self._input_stationary(turn, vectors)
                else:
                    yield from self._output_stationary(turn, vectors)

    def _input_stationary(self, turn: int, vectors: range) -> Iterator[Note]:
        outputs = range(self.outputs)
        for c in range(self.chunks):
            for b in vectors:
                yield Note("feed", turn, b, 0, c)
            backwards = self.values["order"] == "serpentine" and c % 2 == 1
            for o in reversed(outputs) if backwards else outputs:
                for b in vectors:
                    yield Note("bias", turn, b, o, c)
                    yield Note("mac", turn, b, o, c)
                    yield Note("read", turn, b, o, c)

    def _output_stationary(self, turn: int, vectors: range) -> Iterator[Note]:
        kept = bool(self.values["keep_buffer"]) and self.chunks == 1
        for b in vectors:
            for o in range(self.outputs):
                yield Note("bias", turn, b, o, 0)
                for c in range(self.chunks):
                    if not (kept and o > 0):
                        yield Note("feed", turn, b, o, c)
                    yield Note("mac", turn, b, o, c)
                yield Note("read", turn, b, o, 0)

    def buffer_column(self, vector: int) -> int:
        """Where in the buffer the chunk of a row of x begins."""
        return vector % int(self.values["interleave"]) * ceil_div(self.chunk_k, self.org.lanes)

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
            kept = bool(self.values["keep_buffer"]) and chunks == 1
            feeds, reads, times = passes if kept else macs, passes * outputs, passes
        groups = self.at_once * self.slices
        return {
            "columns": macs * self.gemv.columns(self.chunk_k, self.org.column_bytes),
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

    def emit(self, builder: Builder) -> list[Note]:
        """Append the commands; what the host knows about each of them."""
        builder.add(HOST)  # the register that says where units take their inputs from
        notes = [Note("host", 0, 0, 0, 0)]
        segments = self.segments
        masks = {(t, o): self.mask(t, o) for t in range(self.turns) for o in range(self.outputs)}
        for note in self.steps():
            if note.what == "feed":
                notes += [note] * self._feed(builder, note)
                continue
            mask = masks[note.turn, note.output]
            if note.what == "mac":
                place = segments[note.turn, note.output, note.chunk]
                builder.add("MACAB", row=place.row, column=place.column, count=place.count, channels=mask)
            elif note.what == "bias":
                builder.add("WRBIAS", channels=mask)
            else:
                builder.add("RDMAC", count=2 if self.gemv.wide else 1, channels=mask)
            notes.append(note)
        return notes

    def _feed(self, builder: Builder, note: Note) -> int:
        """Write one chunk into the buffers; where channels differ in turns, so that none waits for another's queue.

        Returns:
            Instructions it took.
        """
        start = note.chunk * self.chunk_k
        count = ceil_div(min(self.chunk_k, self.slice_k - start), self.org.lanes)
        first = self.buffer_column(note.vector)
        groups = list(self.groups(note.turn))
        if len(groups) == 1:
            builder.add("WRGB", column=first, count=count, channels=self.mask(note.turn))
            return 1
        piece = self.org.queue
        pieces = range(0, count, piece)
        for at in pieces:
            for _, _, channel in groups:
                mask = ((1 << self.share) - 1) << channel
                builder.add("WRGB", column=first + at, count=min(piece, count - at), channels=mask)
        return len(pieces) * len(groups)

    # --------------------------------------------------------------------------------------- execution

    def compute(self, program: Program, first: int, notes: Sequence[Note], x: Array, weight: Array) -> Array:
        """Execute commands.

        Args:
            program, first, notes: the commands of :meth:`emit` and where in the program they begin.
            x: ``[problems, m, k]`` float32.
            weight: ``[problems, n, k]`` float32; a unit finds its part by the row and column of the command.

        Returns:
            ``[problems, m, n]`` float32.
        """
        gemv, lanes, slices = self.gemv, self.org.lanes, self.slices
        part = slice(first, first + len(notes))
        at = {(s.row, s.column): s for s in self.segments.values()}
        result = np.zeros((gemv.problems, gemv.m, gemv.n), np.float32)
        x = _padded(x, slices * self.slice_k).reshape(gemv.problems, gemv.m, slices, self.slice_k)
        weight = _padded(weight, slices * self.slice_k).reshape(gemv.problems, gemv.n, slices, self.slice_k)
        buffers = np.zeros((self.at_once, slices, self.org.buffer_columns * lanes), np.float32)
        sums = np.zeros((self.at_once, slices, self.share * self.org.banks), np.float32)
        commands = zip(
            notes,
            program.rows[part].tolist(),
            program.columns[part].tolist(),
            program.counts[part].tolist(),
            program.channels[part].tolist(),
            strict=True,
        )
        for note, row, column, count, channels in commands:
            problems = slice(note.turn * self.at_once, min((note.turn + 1) * self.at_once, gemv.problems))
            used = problems.stop - problems.start
            if note.what == "feed":
                place = slice(column * lanes, (column + count) * lanes)
                start = note.chunk * self.chunk_k + (column - self.buffer_column(note.vector)) * lanes
                for group in range(used * slices):
                    if channels >> (group * self.share) & 1:
                        problem, s = divmod(group, slices)
                        values = x[problems.start + problem, note.vector, s, start : start + count * lanes]
                        buffers[problem, s, place] = values
            elif note.what == "bias":
                sums[:used] = 0.0
            elif note.what == "mac":
                segment = at[row, column]
                outputs = self._outputs(segment.output)
                start = segment.chunk * self.chunk_k
                k = min(self.chunk_k, self.slice_k - start)
                weights = weight[problems, outputs, :, start : start + k].transpose(0, 2, 1, 3)
                place = slice(self.buffer_column(note.vector) * lanes, self.buffer_column(note.vector) * lanes + k)
                products = weights @ buffers[:used, :, place, None]
                sums[:used, :, : products.shape[2]] += products[..., 0]
            elif note.what == "read":
                outputs = self._outputs(note.output)
                left = gemv.leaving(sums[:used, :, : outputs.stop - outputs.start])
                result[problems, note.vector, outputs] += left.sum(axis=1)
        return result

    def _outputs(self, output: int) -> slice:
        """Rows of W of an output group."""
        first = output * self.share * self.org.banks
        return slice(first, min(first + self.share * self.org.banks, self.gemv.n))


def _padded(array: Array, k: int) -> Array:
    """An array whose last axis is ``k`` long, zeros behind; itself if it is."""
    missing = k - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else array
