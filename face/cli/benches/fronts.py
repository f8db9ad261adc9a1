"""``fettle bench fronts``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import recordings_in
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table, stderr


def fronts(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings with energies, or folders of them.")],
    known: Annotated[int, typer.Option(min=1, help="Trials of each other recording of the same parameters.")] = 64,
    drawn: Annotated[bool, typer.Option("--drawn", help="They are random, not those of a search.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each on each recording.")] = 16,
    json: JsonOption = False,
) -> None:
    """Trade-offs of time and energy: the share of the area dominated by the whole space that is dominated by what was
    found, with and without trials of the other recordings.

    Example: fettle costmodel record "matmul m=16 n=64 k=64 act=i8 weight=i8" --device npu:systolic -o small.json.gz

    Example: fettle costmodel record "matmul m=64 n=64 k=64 act=i8 weight=i8" --device npu:systolic -o large.json.gz

    Example: fettle bench fronts small.json.gz large.json.gz
    """
    from fettle.bench.fronts import MARKS, bench_fronts

    rows = bench_fronts(recordings_in(files), known, drawn, seeds, functools.partial(stderr.print, highlight=False))
    if json:
        print_json({"bench": "fronts", "seeds": seeds, "marks": MARKS, "rows": [attrs.asdict(row) for row in rows]})
        return
    table = Table(title=f"share of the dominated area, mean of {seeds} seeds ± standard error", title_justify="left")
    for heading in ("recording", "searcher", "sources", *(f"{mark} trials" for mark in MARKS)):
        table.add_column(heading, justify="left" if heading in ("recording", "searcher") else "right")
    for row in rows:
        shares = (f"{share:.3f} ± {error:.3f}" for share, error in zip(row.shares, row.errors, strict=True))
        table.add_row(row.space, row.searcher, str(row.sources), *shares)
    print_table(table, folded=("recording", "searcher"))
