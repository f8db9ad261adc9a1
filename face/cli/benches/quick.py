"""``fettle bench quick``."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import RoundsOption, SeedOption
from fettle.cli.options import DeviceOption, JsonOption
from fettle.cli.output import print_json, print_table, seconds, stderr, stdout


def quick(
    target: Annotated[str, typer.Argument(metavar="MODEL.onnx|WORKLOAD", help="What to tune.")],
    device: DeviceOption = "cpu",
    trials: Annotated[int, typer.Option(min=1, help="Trials of the long search.")] = 200,
    limit: Annotated[float, typer.Option("--time", min=1.0, help="Seconds of the quick search, a workload.")] = 30.0,
    rounds: RoundsOption = 31,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """What `--quick` gives up: every distinct workload tuned with many trials and quickly, each from nothing, and both
    winners timed in turns in one process.

    Example: fettle bench quick examples/decoder_layer.onnx --json
    """
    from fettle.bench.quick import AIM, compare_quick, mean_share
    from fettle.tuning import read_work

    rows = [
        compare_quick(
            workload,
            device,
            trials=trials,
            seconds=limit,
            rounds=rounds,
            seed=seed,
            show=lambda text: stderr.print(text, highlight=False),
        )
        for workload, _ in read_work(target).workloads
    ]
    if json:
        found = [{**attrs.asdict(row), "met": row.met} for row in rows]
        print_json({"bench": "quick", "device": device, "aim": AIM, "mean_share": mean_share(rows), "rows": found})
        return
    table = Table()
    for heading in ("workload", "default", f"{trials} trials", "quick", "trials", "search", "share", "verdict"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.workload,
            *(seconds(time) for time in (row.default_s, row.long_s, row.quick_s)),
            f"{row.long_trials} / {row.quick_trials}",
            f"{row.long_wall:.0f} / {row.quick_wall:.0f} s",
            f"{100 * row.share:.1f} %",
            "same schedule" if row.same else "pass" if row.met else "MISS",
        )
    print_table(table, folded=("workload",))
    stdout.print(f"geometric mean {100 * mean_share(rows):.1f} %, aim {100 * AIM:.0f} % each")
