"""``fettle jobs``: in the embedded store, or on a server with ``--server``."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli import jobfiles
from fettle.cli.asjson import job_json
from fettle.cli.failures import failures
from fettle.cli.knownjobs import StoredJobs, open_jobs
from fettle.cli.options import CaOption, JobArgument, JsonOption, ServerOption, StoreOption, TokenOption
from fettle.cli.output import DONE, FAILED, INTERRUPTED, print_json, print_table, seconds, stderr, stdout
from fettle.cli.progress import JobProgress
from fettle.cli.results import print_results
from fettle.graph.errors import Conflict
from fettle.store.jobs import Job, JobState

app = typer.Typer(help="List, show, watch, cancel, resume and export jobs; write shortlists.", no_args_is_help=True)


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
    with open_jobs(store, server, token, tls_ca) as known:
        found = list(islice(known.jobs(states=tuple(state or ())), limit))
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
    print_table(table, folded=("title", "device"), empty="no such jobs; fettle tune makes them")


@app.command()
def show(
    job_id: JobArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Show one job with its results, and why trials failed (without --server).

    Example: fettle jobs show JOB --json
    """
    with open_jobs(store, server, token, tls_ca) as known:
        job = known.job(job_id)
        failed = failures(known.trials(job)) if isinstance(known, StoredJobs) and job.failed else []
    if json and server is None:
        print_json(job_json(job) | {"failures": [failure.json() for failure in failed]})
        return
    _print(job, json)
    if failed:
        stdout.print("why trials failed:", highlight=False)
    for failure in failed:
        stdout.print(f"  {failure.line()}", highlight=False, soft_wrap=True)


def _print(job: Job, json: bool) -> None:
    if json:
        print_json(job_json(job))
        return
    stdout.print(f"job {job.id}: {job.state.value}, {job.trials} trials, {job.failed} failed", highlight=False)
    if job.error:
        stdout.print(job.error, style="red", highlight=False)
    if job.results:
        print_results(job)


@app.command()
def watch(
    job_id: JobArgument,
    server: ServerOption = None,
    after: Annotated[int, typer.Option("--after", min=0, help="Start after the event of this number.")] = 0,
    store: StoreOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Follow a job until it ends; with --json one event a line. Ctrl-C leaves the job alone.

    Example: fettle jobs watch JOB --server 127.0.0.1:50151
    """
    with open_jobs(store, server, token, tls_ca) as known, JobProgress(stderr, job_id) as progress:
        for event in known.watch(job_id, after=after):
            if json:
                print_json({"number": event.number, "kind": event.kind, **event.data})
            else:
                progress.show(event)
        job = known.job(job_id)
    if not json:
        _print(job, False)
    raise typer.Exit(DONE if job.state is JobState.DONE else FAILED)


@app.command()
def cancel(
    job_id: JobArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Cancel a job; it keeps the best kernels found so far.

    Example: fettle jobs cancel JOB
    """
    with open_jobs(store, server, token, tls_ca) as known:
        job = known.cancel(job_id)
    if json:
        print_json(job_json(job))
        return
    stdout.print(f"job {job.id}: {job.state.value if job.state.is_final else 'cancelling'}", highlight=False)


@app.command()
def resume(
    job_id: JobArgument,
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
        print_json(job_json(job)) if json else stdout.print(f"job {job.id}: {job.state.value}", highlight=False)
        return
    from fettle.cli.running import run_here
    from fettle.store.open import open_store

    interrupted = threading.Event()
    with open_store(store) as opened:
        job = opened.get_job(job_id)
        if job.state.is_final:
            raise Conflict(f"job {job_id} is {job.state.value} and cannot be resumed", hint="tune the same again")
        if resolve_device(job.spec.device_text)[1] != job.spec.device:
            raise Conflict(f"job {job_id} is for {job.spec.device} of another machine", hint="resume it there")
        job = run_here(opened, job_id, interrupted)
    _print(job, json)
    if interrupted.is_set():
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(DONE if job.state is JobState.DONE else FAILED)


app.command()(jobfiles.export)
app.command()(jobfiles.shortlist)
