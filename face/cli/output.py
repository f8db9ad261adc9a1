"""How the command line ends and prints: exit codes, tables, units."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

DONE, FAILED, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130

_PIPE_WIDTH = 160
"""Columns of a table that goes to a file or pipe, where no terminal says how many there are."""

_LEAST_FOLDED = 20
"""Columns into which a text may be folded; in fewer, lines are read more easily than a table."""
_BEATEN = 2.0
"""Times a bound may exceed what was measured for noise's sake: roofs are measured, too."""

_UNLIMITED = 10_000
"""Columns to measure a table in: within those of the terminal it would always seem to fit."""


def _console(stream: TextIO) -> Console:
    """Without markup: what is printed may have brackets of its own, as ``pip install 'fettle-tuner[triton]'`` has."""
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, markup=False)


stdout = _console(sys.stdout)
stderr = _console(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON object on stdout and nothing else."""
    print(json.dumps(value, allow_nan=False, default=str), flush=True)


def print_table(table: Table, folded: Sequence[str] = (), empty: str = "") -> None:
    """A table whose columns stay whole, but for those with the ``folded`` headings.

    Where a terminal is too narrow for that, lines that give each figure after its heading, and nothing of empty cells.
    A table without rows is said in words: ``empty``.
    """
    if empty and not table.rows:
        stdout.print(empty, highlight=False)
        return
    for column in table.columns:
        widest = max(cell_len(str(text)) for text in (column.header, *column.cells))
        is_folded = column.header in folded
        column.overflow, column.no_wrap = "fold", not is_folded
        column.min_width = column.max_width = min(widest, _LEAST_FOLDED) if is_folded else widest
    unlimited = stdout.options.update(width=_UNLIMITED)
    if Measurement.get(stdout, unlimited, table).minimum <= stdout.width:
        for column in table.columns:
            column.max_width = None
        stdout.print(table)
        return
    if table.title:
        stdout.print(table.title, style="italic", highlight=False)
    headings = [str(column.header) for column in table.columns]
    for name, *cells in zip(*(column.cells for column in table.columns), strict=True):
        stdout.print(name, style="bold", highlight=False)
        figures = "; ".join(f"{heading} {cell}" for heading, cell in zip(headings[1:], cells, strict=True) if str(cell))
        stdout.print(Padding(figures, (0, 0, 0, 2)), highlight=False)


def seconds(value: float | None) -> str:
    """A time with three significant digits and a fitting unit."""
    return _with_unit(value, "s")


def joules(value: float | None) -> str:
    """An energy likewise."""
    return _with_unit(value, "J")


def _with_unit(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.3g}")  # first: 999.9 µs are 1 ms
    for prefix, scale in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if rounded >= scale:
            return f"{rounded / scale:{'.0f' if rounded >= 1000.0 else '.3g'}} {prefix}{unit}"
    return f"{rounded:.3g} {unit}"


def speedup(default: float | None, best: float | None) -> str:
    """How many times faster than the default, for people."""
    return f"{default / best:.2f}x" if default and best and math.isfinite(default) else "–"


def of_bound(bound: float | None, best: float | None, name: str = "") -> str:
    """How near a time in seconds comes to the named bound, for people; one that is clearly beaten bounds nothing."""
    if not bound or not best:
        return "–"
    share = f"{100 * bound / best:.0f} %" if bound < _BEATEN * best else "too high:"
    return f"{share} {name}".rstrip(" :")
