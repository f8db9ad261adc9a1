"""``fettle bench defaults``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table, seconds


def defaults(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders with trials.jsonl.gz; without any, those recorded on an H200.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """How the untuned defaults of GPU kernels fare among all that was recorded on a GPU; none is needed.

    Example: fettle bench defaults
    """
    from fettle.bench.defaults import bench_defaults
    from fettle.bench.predictions import RECORDED, TRIALS

    rows = bench_defaults(folders or sorted(path.parent for path in RECORDED.glob(f"*/{TRIALS}")))
    if json:
        print_json({"rows": [attrs.asdict(row) | {"share": row.share} for row in rows]})
        return
    table = Table()
    for heading in ("workload", "trials", "best", "recorded", "default", "best / default"):
        table.add_column(heading, justify="left" if heading in ("workload", "recorded") else "right")
    for row in rows:
        share = "not measured" if row.share is None else f"{row.share:.3f}"
        table.add_row(row.workload, str(row.trials), seconds(row.best_s), row.folder, seconds(row.default_s), share)
    print_table(table, folded=("workload", "recorded"))
