"""``fettle jobs``: in the embedded store, or on a server with ``--server``."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fettle.cli.options import CaOption, JsonOption, ServerOption, StoreOption, TokenOption
from fettle.cli.output import DONE, FAILED, INTERRUPTED, job_json, print_json, print_results, seconds, stderr, stdout
from fettle.cli.progress import JobProgress
from fettle.graph.errors import Conflict, InvalidArgument, NotFound
from fettle.graph.workload import Workload
from fettle.store.values import Job, JobState

app = typer.Typer(help="List, show, watch, cancel, resume and export jobs.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="The job's id.")]


def _row(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state.value,
        "title": job.spec.title,
        "device": str(job.spec.device),
        "workloads": len(job.spec.workloads),
        "trials": job.trials,
        "failed": job.failed,
        "best_s": job.best_s,
        "created": job.created,
        "updated": job.updated,
    }


@app.command(name="list")
def list_jobs(
    state: Annotated[
        list[JobState] | None, typer.Option("--state", help="Only jobs in this state. Repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """List jobs, newest first.

    Example: fettle jobs list --state running --state queued
    """
    found: list[Job] = []
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            found = _take(client.jobs(states=tuple(state or ())), limit)
    else:
        from fettle.store.open import open_store

        with open_store(store) as opened:
            page_token = ""
            while len(found) < limit:
                page = opened.list_jobs(min(50, limit - len(found)), page_token, tuple(state or ()))
                found += page.jobs
                page_token = page.next_token
                if not page_token:
                    break
    if json:
        print_json({"jobs": [_row(job) for job in found]})
        return
    table = Table()
    for heading in ("id", "state", "title", "device", "workloads", "trials", "failed", "best"):
        table.add_column(heading)
    for job in found:
        row = _row(job)
        table.add_row(
            *(str(row[k]) for k in ("id", "state", "title", "device", "workloads", "trials", "failed")),
            seconds(job.best_s),
        )
    stdout.print(table)


def _take(jobs: Iterable[Job], limit: int) -> list[Job]:
    found = []
    for job in jobs:
        found.append(job)
        if len(found) == limit:
            break
    return found


@app.command()
def show(
    job_id: IdArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Show one job with its results.

    Example: fettle jobs show JOB --json
    """
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            job = client.job(job_id)
    else:
        from fettle.store.open import open_store

        with open_store(store) as opened:
            job = opened.get_job(job_id)
    _print(job, json)


def _print(job: Job, json: bool) -> None:
    if json:
        print_json(job_json(job))
        return
    stdout.print(f"job {job.id}: {job.state.value}, {job.trials} trials, {job.failed} failed", highlight=False)
    if job.error:
        stdout.print(f"[red]{job.error}[/red]")
    if job.results:
        print_results(job)


@app.command()
def watch(
    job_id: IdArgument,
    server: ServerOption = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Start behind this event number.")] = 0,
    store: StoreOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Follow a job until it ends; with --json one event a line. Ctrl-C leaves the job alone.

    Example: fettle jobs watch JOB --server 127.0.0.1:50151
    """
    import time

    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client, JobProgress(stderr, job_id) as progress:
            for event in client.watch(job_id, after=after):
                print_json({"number": event.number, "kind": event.kind, **event.data}) if json else progress.show(event)
            job = client.job(job_id)
    else:
        from fettle.store.open import open_store

        with open_store(store) as opened, JobProgress(stderr, job_id) as progress:
            while True:
                job = opened.get_job(job_id)
                for event in opened.events(job_id, after):
                    after = event.number
                    print_json({"number": event.number, "kind": event.kind, **event.data}) if json else progress.show(
                        event
                    )
                if job.state.is_final:
                    break
                time.sleep(0.5)
    if not json:
        _print(job, False)
    raise typer.Exit(DONE if job.state is JobState.DONE else FAILED)


@app.command()
def cancel(
    job_id: IdArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
) -> None:
    """Cancel a job; it keeps the best kernels found so far.

    Example: fettle jobs cancel JOB
    """
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            job = client.cancel(job_id)
    else:
        from fettle.search.jobs import run_job
        from fettle.store.open import open_store

        with open_store(store) as opened:
            job = opened.request_cancel(job_id)
            if not job.state.is_final:
                with suppress(Conflict):  # somebody runs it, and will notice; else it was cut off, and ends here
                    job = run_job(opened, job_id)
    stdout.print(f"job {job.id}: {job.state.value if job.state.is_final else 'cancelling'}", highlight=False)


@app.command()
def resume(
    job_id: IdArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with a job that was paused, interrupted or cut off, from its stored trials.

    Example: fettle jobs resume JOB
    """
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            job = client.resume(job_id)
        stdout.print(f"job {job.id}: {job.state.value}", highlight=False)
        return
    from fettle.cli.tune import run_here
    from fettle.store.open import open_store

    interrupted = threading.Event()
    with open_store(store) as opened:
        job = run_here(opened, job_id, interrupted)
    _print(job, json)
    if interrupted.is_set():
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(DONE if job.state is JobState.DONE else FAILED)


@app.command()
def export(
    job_id: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; gzip if it ends in .gz.")],
    workload: Annotated[
        str | None, typer.Option("--workload", help="Which one, if the job has several: its text or key.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a job's trials as a FAIR T4 file, which `--device replay:FILE` reads.

    Example: fettle jobs export 1m7x4e5599s5y -o trials.json.gz
    """
    from fettle.backends.replay.files import write_document
    from fettle.backends.replay.t4 import t4_document
    from fettle.store.open import open_store

    with open_store(store) as opened:
        job = opened.get_job(job_id)
        chosen = _choose(job, workload)
        records = opened.job_records(job_id, chosen.key)
    if not records:
        raise NotFound(f"job {job_id} has no trials of {chosen}", hint="what came from the cache was not tried")
    device = job.spec.device
    write_document(output, t4_document(records, created=job.created, device_name=device.label or str(device)))
    stdout.print(f"{len(records)} trials of {chosen} written to {output}", highlight=False)


@app.command()
def shortlist(
    job_id: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    top: Annotated[int, typer.Option(min=1, help="Candidates of each workload besides the default.")] = 16,
    store: StoreOption = None,
) -> None:
    """Write the best candidates of a job for a compile target, for a machine that has the GPU to measure.

    Example: fettle jobs shortlist 1m7x4e5599s5y --top 16 -o shortlist.json
    """
    from fettle.backends.registry import get_backend
    from fettle.backends.triton.shortlist import Shortlist, entry_of
    from fettle.store.open import open_store

    with open_store(store) as opened:
        job = opened.get_job(job_id)
        device = job.spec.device
        if device.backend != "triton":
            raise InvalidArgument(f"job {job_id} is for {device}, not for a compile target of Triton")
        backend = get_backend(device.backend)
        entries = [
            entry_of(w, opened.job_records(job_id, w.key), backend.default(w, device), top)
            for w, _ in job.spec.workloads
            if backend.supports(w, device)
        ]
    found = Shortlist(str(device), tuple(entry for entry in entries if entry is not None))
    if not found.entries:
        raise NotFound(f"job {job_id} has no candidate that could be predicted")
    found.write(output)
    count = sum(len(entry.schedules) for entry in found.entries)
    stdout.print(f"{count} candidates of {len(found.entries)} workloads written to {output}", highlight=False)


def _choose(job: Job, wanted: str | None) -> Workload:
    """The workload of a job with that text or key; without one, the only one."""
    workloads = [workload for workload, _ in job.spec.workloads]
    if wanted is None and len(workloads) == 1:
        return workloads[0]
    names = "; ".join(str(workload) for workload in workloads)
    if wanted is None:
        raise InvalidArgument(f"job {job.id} has {len(workloads)} workloads", hint=f"--workload is one of: {names}")
    for workload in workloads:
        if wanted == workload.key or wanted == str(workload):
            return workload
    raise NotFound(f"job {job.id} has no workload {wanted[:200]!r}", hint=f"it has: {names}")
