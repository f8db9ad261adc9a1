"""``fettle cache``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli.asjson import kernel_json, plain
from fettle.cli.machinecode import code
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import DONE, FAILED, of_bound, print_json, print_table, seconds, speedup, stderr, stdout
from fettle.graph.errors import DataLoss, NotFound

_GRACE = 3600.0
"""Seconds that an artifact stays without a kernel: somebody may be about to name it."""

app = typer.Typer(
    help="List, count, verify, prune, export and import what the cache holds; read GPU kernels' machine code.",
    no_args_is_help=True,
)
app.command()(code)


@app.command(name="list")
def list_kernels(
    device: Annotated[str | None, typer.Option("--device", help="Only kernels for this device.")] = None,
    operator: Annotated[str | None, typer.Option("--operator", help="Only kernels of this operator.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List cached kernels, newest first.

    Example: fettle cache list --device cpu --operator matmul
    """
    from fettle.store.open import open_store

    key = resolve_device(device)[1].key if device is not None else None
    with open_store(store) as opened:
        kernels = opened.kernels(key, operator)
    if json:
        print_json({"kernels": [kernel_json(k) for k in kernels]})
        return
    table = Table()
    for heading in ("workload", "device", "mode", "from", "best", "speed-up", "of bound", "artifact"):
        table.add_column(heading)
    for k in kernels:
        table.add_row(
            str(k.workload),
            str(k.device),
            k.mode,
            k.basis.value,
            seconds(k.best_s),
            speedup(k.default_s, k.best_s),
            of_bound(k.bound_s, k.best_s, k.bound),
            k.artifact_sha256[:12],
        )
    print_table(table, folded=("workload", "device"), empty="no such kernels; fettle tune makes them")


@app.command()
def stats(store: StoreOption = None, json: JsonOption = False) -> None:
    """Count what the cache holds.

    Example: fettle cache stats --json
    """
    from fettle.store.open import open_store

    with open_store(store) as opened:
        counts = opened.stats()
    if json:
        print_json(plain(counts))
        return
    for name, value in plain(counts).items():
        label = name.replace("records", "trials").replace("_", " ")  # what people call them
        stdout.print(f"{label:16} {value}", highlight=False)


@app.command()
def verify(store: StoreOption = None, json: JsonOption = False) -> None:
    """Read the artifact of every kernel. Exits with 1 when one is damaged or lost; tune those workloads again.

    Example: fettle cache verify --json
    """
    from fettle.store.encoding import MAX_INTEGER
    from fettle.store.open import open_store

    lost: list[dict[str, str]] = []
    with open_store(store, create=False) as opened:
        kernels = opened.kernels(limit=MAX_INTEGER)
        for kernel in kernels:
            try:
                opened.get_artifact(kernel.artifact_sha256)
            except (DataLoss, NotFound) as problem:
                what = {"workload": str(kernel.workload), "device": str(kernel.device)}
                lost.append(what | {"problem": problem.message})
    if json:
        print_json({"kernels": len(kernels), "lost": lost})
    else:
        for row in lost:
            stdout.print(f"{row['workload']} on {row['device']}: {row['problem']}", highlight=False, soft_wrap=True)
        stdout.print(f"{len(kernels) - len(lost)} of {len(kernels)} kernels are whole", highlight=False)
    raise typer.Exit(FAILED if lost else DONE)


@app.command()
def prune(
    jobs_older_than: Annotated[
        float | None,
        typer.Option(
            "--jobs-older-than",
            min=0,
            help="Days; jobs that ended earlier go too, with their trials and events. Later searches learn nothing "
            "from them then.",
        ),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove artifacts that no kernel uses any more, an hour after they were stored. Kernels stay.

    Example: fettle cache prune --jobs-older-than 90
    """
    from fettle.store.open import open_store

    now = time.time()
    with open_store(store, create=False) as opened:
        pruned = opened.prune(now - _GRACE, None if jobs_older_than is None else now - 86_400 * jobs_older_than)
    if json:
        print_json(plain(pruned))
        return
    stdout.print(
        f"removed {pruned.artifacts} artifacts ({pruned.artifact_bytes:,} B), {pruned.jobs} jobs with "
        f"{pruned.records} trials",
        highlight=False,
    )


@app.command()
def export(
    corpus: Annotated[Path, typer.Option("--corpus", help="Parquet file to write: every trial, failures included.")],
    job: Annotated[str | None, typer.Option("--job", help="Only trials of this job.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Only trials on this device.")] = None,
    operator: Annotated[str | None, typer.Option("--operator", help="Only trials of this operator.")] = None,
    programs: Annotated[
        bool, typer.Option("--programs/--no-programs", help="Lower every candidate again for its program text.")
    ] = True,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write trials of any job as a table to learn from: program, features, schedule, samples, device. Needs pyarrow.

    Example: fettle cache export --corpus trials.parquet --operator matmul
    """
    from rich.progress import Progress

    from fettle.search.corpus import export_corpus
    from fettle.store.open import open_store

    key = resolve_device(device)[1].key if device is not None else None
    with open_store(store) as opened, Progress(console=stderr, transient=True) as progress:
        task = progress.add_task("trials", total=opened.stats().records if job is key is operator is None else None)
        count = export_corpus(
            opened,
            corpus,
            job_id=job,
            device_key=key,
            operator=operator,
            programs=programs,
            on_rows=lambda more: progress.advance(task, more),
        )
    if json:
        print_json({"corpus": str(corpus), "trials": count})
        return
    stdout.print(f"{count} trials written to {corpus}", highlight=False)


@app.command(name="import")
def import_results(
    folder: Annotated[Path, typer.Argument(help="What `fettle gpu-measure` wrote.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take over kernels that were measured on another machine; each winner is decided here, from its samples.

    Example: fettle cache import results/
    """
    from fettle.search.campaigns import import_campaign
    from fettle.store.open import open_store

    with open_store(store) as opened:
        kernels = import_campaign(opened, folder)
    if json:
        print_json({"kernels": [kernel_json(k) for k in kernels]})
        return
    for k in kernels:
        stdout.print(
            f"{k.workload}: {seconds(k.best_s)}, {speedup(k.default_s, k.best_s)} the default", highlight=False
        )
    stdout.print(f"{len(kernels)} kernels imported", highlight=False)
