"""Command traces of the SRAM device, steps of one kind a line, as ``fettle simulate`` writes and reads them::

    TABLES weight=4 inputs=4 group=128 batch=1 arrays=16
    LOAD weights bytes=8650752
    LOAD x bytes=8192
    FEED count=4096
    BUILD count=32  # batch 0 group 0
    FETCH count=194
    ADD bit=0 count=32
    CONVERT count=1
    SCALE count=1
    ACCUMULATE count=1
    STORE results bytes=8192

``TABLES`` comes first: bits of a weight, inputs of a table, weights of a scale group, rows of x whose sums a bitline
holds, arrays in use. The steps follow; each takes the same time whatever its data are, so a line says how often.
``SLICE`` begins the steps of bitlines that work beside those of the slices before it, up to ``SYNC``; ``HOST`` counts
sums that the host fetches and converts. ``STORE`` is the last line. ``#`` begins a comment.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from fettle.backends.host.lines import take_lines
from fettle.backends.pim.lut.model import ADD, FETCH, Sram, Widths
from fettle.backends.pim.lut.program import FEED, HOST, LOADED, STORED, Program, Steps
from fettle.graph.errors import InvalidArgument

_TABLES, _LOAD, _STORE, _SLICE, _SYNC = "TABLES", "LOAD", "STORE", "SLICE", "SYNC"
_MOVES: Mapping[str, tuple[str, ...]] = {_LOAD: LOADED, _STORE: (STORED,)}
"""Commands of the memory bus, and what they move."""
_FIELDS = ("weight", "inputs", "group", "batch", "arrays")
_MOST_BITS = 16
"""Of a weight: twice what any format has."""
_MOST_INPUTS = 8
"""Of a table."""


def write(program: Program, phases: Sequence[Iterable[tuple[str, Steps]]]) -> tuple[str, ...]:
    """The lines of a program; reading them gives the same program.

    Args:
        phases: of each slice, its steps in parts, with what each part is.
    """
    widths = program.widths
    values = (widths.weight, widths.inputs, widths.group, program.batch, program.arrays)
    lines = [f"{_TABLES} {' '.join(f'{name}={value}' for name, value in zip(_FIELDS, values, strict=True))}"]
    lines += [f"{_LOAD} {name} bytes={program.moved[name]}" for name in LOADED]
    lines.append(f"{FEED} count={program.feed}")
    for parts in phases:
        lines += [_SLICE] if len(phases) > 1 else []
        for label, steps in parts:
            first, *others = _counted(steps)
            lines += [f"{first}  # {label}", *others]
    lines += [_SYNC, *_counted(program.merge)] if program.merge else []
    lines += [f"{HOST} count={program.host}"] if program.host else []
    return (*lines, f"{_STORE} {STORED} bytes={program.moved[STORED]}")


def _counted(steps: Steps) -> Iterator[str]:
    return (f"{name} count={n}" for name, n in steps.items())


def read(lines: Iterable[str], sram: Sram) -> Program:
    """The program of a trace.

    Raises:
        InvalidArgument: a malformed line, sizes that the device does not have, or a trace that ends too early.
    """
    reader = _Reader(sram)
    take_lines(lines, reader.take)
    return reader.program()


class _Reader:
    """Adds up what lines say."""

    def __init__(self, sram: Sram) -> None:
        self._sram = sram
        self._tables: _Tables | None = None
        self._moved: Counter[str] = Counter()
        self._slices: list[Counter[str]] = []
        self._merge: Counter[str] | None = None

    def take(self, words: list[str]) -> None:
        """The next command."""
        command, *others = words
        if (command == _TABLES) == (self._tables is not None):
            raise InvalidArgument(f"{_TABLES} is the first command, and comes once")
        if STORED in self._moved:
            raise InvalidArgument(f"nothing comes after {_STORE}")
        if self._tables is None:
            self._tables = _Tables.of(others, self._sram)
        elif command in _MOVES:
            self._moved[_what(command, others)] += _number(others[-1], "bytes")
        elif command in (FEED, HOST):
            self._moved[command] += _number(" ".join(others), "count")
        elif command in (_SLICE, _SYNC):
            self._begin(words, self._tables.lanes)
        else:
            self._step(" ".join(words[:-1]), words[-1], self._tables.widths)

    def _begin(self, words: Sequence[str], most: int) -> None:
        """A slice begins, or all end."""
        if len(words) > 1:
            raise InvalidArgument(f"{words[0]} stands alone")
        if self._merge is not None:
            raise InvalidArgument(f"{_SYNC} ends the slices")
        if self._slices and not self._slices[-1]:
            raise InvalidArgument("the slice before has no step")
        if words[0] == _SYNC:
            self._merge = Counter()
        elif len(self._slices) == most:
            raise InvalidArgument(f"more slices than bitlines: {most}")
        else:
            self._slices.append(Counter())

    def _step(self, name: str, number: str, widths: Widths) -> None:
        if name not in widths.cycles:
            known = " ".join((_TABLES, *_MOVES, FEED, HOST, _SLICE, _SYNC, *widths.cycles))
            raise InvalidArgument(f"unknown command; known, each with its count: {known}")
        if self._merge is None and not self._slices:
            self._slices.append(Counter())
        (self._slices[-1] if self._merge is None else self._merge)[name] += _number(number, "count")

    def program(self) -> Program:
        """Everything that was taken."""
        if self._tables is None:
            raise InvalidArgument("the trace has no command")
        if STORED not in self._moved:
            raise InvalidArgument(f"the trace ends before {_STORE} {STORED}")
        if not self._slices or not self._slices[-1]:
            raise InvalidArgument("a slice has no step")
        parts = (*self._slices, self._merge or Counter())
        if sum(part[FETCH] for part in parts) > sum(
            n for part in parts for name, n in part.items() if name.startswith(ADD)
        ):
            raise InvalidArgument("more entries are fetched than added")
        return Program(
            self._tables.widths,
            self._tables.arrays,
            self._tables.batch,
            {name: self._moved[name] for name in (*LOADED, STORED)},
            self._moved[FEED],
            self._moved[HOST],
            tuple(map(dict, self._slices)),
            dict(self._merge or {}),
        )


@attrs.frozen
class _Tables:
    """What the first line says; ``lanes`` are the bitlines in use."""

    widths: Widths
    batch: int
    arrays: int
    lanes: int

    @classmethod
    def of(cls, words: Sequence[str], sram: Sram) -> _Tables:
        """The sizes, if the device has them."""
        if len(words) != len(_FIELDS):
            raise InvalidArgument(f"expected {_TABLES} {' '.join(f'{name}=N' for name in _FIELDS)}")
        weight, inputs, group, batch, arrays = map(_number, words, _FIELDS)
        for name, value, most in (
            ("weight", weight, _MOST_BITS),
            ("inputs", inputs, _MOST_INPUTS),
            ("arrays", arrays, sram.arrays),
        ):
            if value > most:
                raise InvalidArgument(f"{name}={value} is beyond {most}, the most")
        widths = Widths(weight, inputs, sram.activation_bits, group)
        if (rows := widths.rows(batch)) > sram.wordlines:
            raise InvalidArgument(f"a table and the sums of a batch take {rows} wordlines of {sram.wordlines}")
        return cls(widths, batch, arrays, arrays * sram.bitlines)


def _what(command: str, words: Sequence[str]) -> str:
    """What a LOAD or STORE moves."""
    known = _MOVES[command]
    if len(words) != 2 or words[0] not in known:
        raise InvalidArgument(f"expected {command} {'|'.join(known)} bytes=N")
    return words[0]


def _number(word: str, field: str) -> int:
    """Of ``field=N``, at least 1."""
    match = re.fullmatch(rf"{field}=([0-9]{{1,12}})", word, re.ASCII)
    if match is None or not int(match[1]):
        raise InvalidArgument(f"expected {field}=N of at most 12 digits, from 1")
    return int(match[1])
