"""``fettle costmodel``."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import numpy as np
import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli.options import DeviceOption, JsonOption, StoreOption
from fettle.cli.output import print_json, print_table, seconds, stderr
from fettle.cli.replay import known_elsewhere
from fettle.costmodel.newdevice import REFERENCES
from fettle.costmodel.recorded import AnalysedTrials
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.api import Record
    from fettle.search.newdevice import Prediction

app = typer.Typer(help="Judge how well times are predicted; record spaces for that.", no_args_is_help=True)


@app.callback()
def _costmodel() -> None:
    pass


@app.command()
def record(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="A workload text.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A FAIR T4 file; gzip if it ends in .gz.")],
    device: DeviceOption = "cpu",
    schedules: Annotated[int, typer.Option(min=1, help="Random schedules beside the default.")] = 600,
    rounds: Annotated[int, typer.Option(min=1, help="Samples of each, taken in turns.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Of the schedules and the data.")] = 0,
) -> None:
    """Record a random part of a space, for `fettle costmodel report FILE` and `fettle replay FILE`.

    Example: fettle costmodel record "matmul m=1 n=4096 k=4096 act=f32 weight=u4:128" -o gemv.json.gz
    """
    from fettle.backends.replay.files import write_document
    from fettle.backends.replay.t4 import t4_document
    from fettle.bench.recording import record_space

    backend, resolved = resolve_device(device)
    parsed = Workload.parse(workload)
    records = record_space(
        backend, parsed, resolved, schedules, rounds, seed, lambda text: stderr.print(text, highlight=False)
    )
    write_document(output, t4_document(records, created=time.time(), device_name=resolved.label))
    failed = sum(not r.measurement.ok for r in records)
    stderr.print(f"{len(records)} schedules, {failed} failed: {output}", highlight=False)


@app.command()
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="Recordings, instead of the store's trials.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Only trials on this device.")] = None,
    trained_on: Annotated[int, typer.Option(min=8, help="Trials the model may see.")] = 64,
    splits: Annotated[int, typer.Option(min=1, help="Random choices of them; figures are means.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the choices.")] = 0,
    save: Annotated[
        Path | None, typer.Option(help="A folder for the models, fitted to all trials, one a (workload, device).")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Judge the cost model on the store's trials, or on recordings: fitted to a random part of them, it predicts the
    rest.

    Trials that a search picked are alike, and harder to tell apart than random ones.

    Example: fettle costmodel report --device cpu --json

    Example: fettle costmodel report bench/results/zen4/gemv/*.json.gz --splits 20
    """
    from fettle.costmodel.report import LEAST_TRIALS, judge

    if files and (store is not None or device is not None):
        raise InvalidArgument("recordings are judged alone", hint="leave out --store and --device")
    rows = []
    for trials in _recorded(files) if files else _stored(store, device):
        quality = judge(
            trials.names, trials.features, trials.log_times, trained_on=trained_on, splits=splits, seed=seed
        )
        if quality is not None:
            rows.append((trials, quality))
            if save is not None:
                _save(save, trials)
    if json:
        found = [{"workload": str(t.workload), "device": t.device.label, **attrs.asdict(q)} for t, q in rows]
        print_json({"models": found})
        return
    table = Table()
    for heading in ("workload", "device", "known", "unseen", "Spearman", "pairs", "top-1", "top-5", "coverage"):
        table.add_column(heading)
    for t, q in rows:
        ranks = ("–" if value is None else f"{value:.2f}" for value in (q.spearman, q.pairwise))
        regrets = (f"{100 * value:.1f} %" for value in (q.top1_regret, q.top5_regret, q.coverage))
        table.add_row(str(t.workload), t.device.label, str(q.trained_on), str(q.judged_on), *ranks, *regrets)
    print_table(
        table,
        folded=("workload", "device"),
        empty=f"nothing to judge: that takes {LEAST_TRIALS} trials of a workload, of different times",
    )


@app.command()
def predict(
    workload: Annotated[str, typer.Argument(metavar="WORKLOAD", help="A workload text.")],
    device: DeviceOption = "cpu",
    known: Annotated[
        list[Path] | None,
        typer.Option(
            "--known",
            help="A recording of the same kernel on another device, instead of the store's trials there. Repeatable.",
        ),
    ] = None,
    references: Annotated[int, typer.Option(min=2, help="Schedules to measure on the device.")] = REFERENCES,
    rounds: Annotated[int, typer.Option(min=1, help="Samples of each, taken in turns.")] = 15,
    fastest: Annotated[int, typer.Option(min=0, help="How many predictions to print; 0: all.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the references and the data.")] = 0,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Predict every schedule's time on a device that is new, from a few measurements there and trials on others.

    Example: fettle costmodel predict recorded --device replay:bench/results/zen4/gemv/u4-4096x4096.json.gz
    --known bench/results/zen4/gemv/u2-11008x4096.json.gz
    """
    from fettle.backends.spaces import enumerate_space
    from fettle.bench.recording import record_schedules, require_support
    from fettle.search.elsewhere import on_other_devices
    from fettle.search.newdevice import NewDevice
    from fettle.store.open import open_store

    backend, resolved = resolve_device(device)
    parsed = Workload.parse(workload)
    require_support(backend, parsed, resolved)
    points = enumerate_space(backend.space(parsed, resolved))
    if known:
        sources = [known_elsewhere(path, set(points.names), "--known") for path in known]
    else:
        with open_store(store) as opened:
            sources = on_other_devices(opened, parsed, resolved, points.space)
    new = NewDevice(points, sources)
    chosen = new.references(seed, references)
    show = functools.partial(stderr.print, highlight=False)
    measured = record_schedules(backend, parsed, resolved, chosen, rounds, seed, show)
    predicted = new.predict(measured)
    shown = predicted[: fastest or None]
    if json:
        report = {"workload": str(parsed), "device": resolved.label, "known_devices": new.known}
        print_json(report | {"references": [_measured(r) for r in measured], "predicted": [_json(p) for p in shown]})
        return
    title = f"{len(predicted)} schedules predicted, other devices known: {new.known}"
    print_table(_predictions(title, measured, shown), folded=("schedule",))


def _predictions(title: str, measured: Sequence[Record], predicted: Sequence[Prediction]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("", "time", "schedule"):
        table.add_column(heading)
    for r in measured:
        time_s = seconds(r.measurement.time) if r.measurement.ok else r.measurement.outcome.value
        table.add_row("measured", time_s, str(r.candidate.schedule))
    for p in predicted:
        table.add_row("predicted", seconds(p.seconds), str(p.schedule))
    return table


def _measured(record: Record) -> dict[str, Any]:
    m = record.measurement
    schedule, time_s = record.candidate.schedule.as_dict(), m.time if m.ok else None
    return {"schedule": schedule, "outcome": m.outcome.value, "time_s": time_s}


def _json(prediction: Prediction) -> dict[str, Any]:
    return {"schedule": prediction.schedule.as_dict(), "time_s": prediction.seconds}


def _stored(store: str | None, device: str | None) -> Iterator[AnalysedTrials]:
    from fettle.costmodel.report import feature_matrix
    from fettle.search.elsewhere import grouped
    from fettle.search.trials import undisturbed_seconds
    from fettle.store.open import open_store

    key = resolve_device(device)[1].key if device is not None else None
    with open_store(store) as opened:
        groups = grouped(opened.records(device_key=key))
    for records in groups:
        candidate = records[0].candidate
        times = np.array([math.log(undisturbed_seconds(r)) for r in records])
        yield AnalysedTrials(
            candidate.workload, candidate.device, *feature_matrix([dict(r.features) for r in records]), times
        )


def _recorded(files: Sequence[Path]) -> Iterator[AnalysedTrials]:
    from fettle.backends.replay.files import read_recording
    from fettle.costmodel.recorded import analysed

    yield from (analysed(read_recording(path)) for path in files)


def _save(folder: Path, trials: AnalysedTrials) -> None:
    from fettle.costmodel.files import dumps
    from fettle.costmodel.model import CostModel
    from fettle.costmodel.report import analytic_column

    model = CostModel(analytic=analytic_column(trials.names))
    if model.fit(trials.features, trials.log_times):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{trials.workload.key[:16]}-{trials.device.key[:16]}.costmodel"
        (folder / name).write_bytes(dumps(model, trials.names))
