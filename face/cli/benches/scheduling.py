"""``fettle bench schedule``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fettle.cli.benches.options import recordings_in
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table, stderr
from fettle.search.samplers import DEFAULT, SAMPLERS


def schedule(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="What occurs how often.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings of its workloads, or folders.")],
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 10,
    sampler: Annotated[str, typer.Option(help=f"What proposes trials: {', '.join(SAMPLERS)}.")] = DEFAULT,
    from_default: Annotated[
        bool, typer.Option(help="Begin with the untuned default; without it, with a schedule of the slowest quarter.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Trials given out by expected gain and in turn: best time of the model / time found, by replay.

    The last row is how far expected gain is ahead, in the mean over seeds, with its 95 % confidence interval.

    Example: fettle bench schedule examples/decoder_layer.onnx bench/results/zen4/decoder_layer --no-from-default
    """
    from fettle.bench.scheduling import MARKS, POLICIES, curves, lead, mean_ratio, parts_of
    from fettle.tuning import read_work

    parts = parts_of(read_work(model).workloads, recordings_in(files))
    found = curves(parts, seeds, sampler, from_default, show=lambda text: stderr.print(text, highlight=False))
    means = {policy: {mark: mean_ratio(found, policy, mark) for mark in MARKS} for policy in POLICIES}
    leads = {mark: lead(found, mark) for mark in MARKS}
    if json:
        print_json({"bench": "schedule", "seeds": seeds, "sampler": sampler, "from_default": from_default,
                    "means": {p: {str(m): r for m, r in marks.items()} for p, marks in means.items()},
                    "lead": {str(m): {"mean": ahead, "ci95": None if math.isnan(half) else half}
                             for m, (ahead, half) in leads.items()}})  # fmt: skip
        return
    table = Table(title=f"best time of the model / time found, mean of {seeds} seeds", title_justify="left")
    for heading in ("mean trials a workload", *(str(mark) for mark in MARKS)):
        table.add_column(heading)
    for policy, marks in means.items():
        table.add_row(policy, *(f"{ratio:.4f}" for ratio in marks.values()))
    table.add_row("ahead", *(f"{ahead:+.4f} ± {half:.4f}" for ahead, half in leads.values()))
    print_table(table)
