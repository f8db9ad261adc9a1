"""``fettle bench predictions``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table


def predictions(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders with trials.jsonl.gz; without any, those recorded on an H200.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """How predictions of GPU kernels rank the times that were recorded on a GPU; none is needed.

    Example: fettle bench predictions bench/results/h200/third
    """
    from fettle.bench.predictions import RECORDED, TRIALS, bench_predictions, mean_spearman

    rows = bench_predictions(folders or sorted(path.parent for path in RECORDED.glob(f"*/{TRIALS}")))
    if json:
        print_json({"rows": [attrs.asdict(row) for row in rows]})
        return
    table = Table(title=f"mean Spearman {mean_spearman(list(rows)):.2f}")
    for heading in ("recorded", "workload", "trials", "Spearman", "median error", "best / best of 3 picks"):
        table.add_column(heading, justify="left" if heading in ("recorded", "workload") else "right")
    for row in rows:
        figures = (str(row.trials), f"{row.spearman:.2f}", f"{100 * row.error:.0f} %", f"{row.picks:.2f}")
        table.add_row(row.folder, row.workload, *figures)
    print_table(table, folded=("recorded", "workload"))
