"""``fettle costmodel``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, stdout

app = typer.Typer(help="How well times are predicted.", no_args_is_help=True)


@app.callback()
def _costmodel() -> None:
    pass


@app.command()
def report(
    device: Annotated[str | None, typer.Option("--device", help="Only trials on this device.")] = None,
    trained_on: Annotated[int, typer.Option(min=8, help="Trials the model may see.")] = 64,
    save: Annotated[
        Path | None, typer.Option(help="A folder for the models, fitted to all trials, one a (workload, device).")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Judge the cost model on the store's trials: fitted to a random part of them, it predicts the rest.

    Trials that a search picked are alike, and harder to tell apart than random ones.

    Example: fettle costmodel report --device cpu --json
    """
    from fettle.costmodel.files import dumps
    from fettle.costmodel.model import CostModel
    from fettle.costmodel.report import Quality, feature_matrix, judge
    from fettle.search.elsewhere import grouped
    from fettle.search.tuner import undisturbed_seconds
    from fettle.store.open import open_store

    key = resolve_device(device)[1].key if device is not None else None
    with open_store(store) as opened:
        groups = grouped(opened.records(device_key=key))
    rows: list[tuple[str, str, Quality]] = []
    for records in groups:
        names, features = feature_matrix([dict(r.features) for r in records])
        _, times = feature_matrix([{"log_time": math.log(undisturbed_seconds(r))} for r in records])
        quality = judge(features, times[:, 0], trained_on=trained_on)
        if quality is None:
            continue
        candidate = records[0].candidate
        rows.append((str(candidate.workload), candidate.device.label, quality))
        model = CostModel()
        if save is not None and model.fit(features, times[:, 0]):
            save.mkdir(parents=True, exist_ok=True)
            name = f"{candidate.workload.key[:16]}-{candidate.device.key[:16]}.costmodel"
            (save / name).write_bytes(dumps(model, names))
    if json:
        print_json({"models": [{"workload": w, "device": d, **attrs.asdict(q)} for w, d, q in rows]})
        return
    table = Table()
    for heading in ("workload", "device", "known", "unseen", "Spearman", "pairs", "top-1", "top-5", "coverage"):
        table.add_column(heading)
    for workload, label, q in rows:
        ranks = ("–" if value is None else f"{value:.2f}" for value in (q.spearman, q.pairwise))
        regrets = (f"{100 * value:.1f} %" for value in (q.top1_regret, q.top5_regret, q.coverage))
        table.add_row(workload, label, str(q.trained_on), str(q.judged_on), *ranks, *regrets)
    stdout.print(table)
