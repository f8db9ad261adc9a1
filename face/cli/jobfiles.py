"""``fettle jobs export`` and ``fettle jobs shortlist``: files of what a job tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.options import JobArgument, StoreOption
from fettle.cli.output import stdout
from fettle.graph.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from fettle.graph.workload import Workload
    from fettle.store.jobs import Job


def export(
    job_id: JobArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; gzip if it ends in .gz.")],
    workload: Annotated[
        str | None, typer.Option("--workload", help="Which one, if the job has several: its text or key.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a job's trials as a FAIR T4 file, which `--device replay:FILE` reads.

    Example: fettle jobs export JOB -o trials.json.gz
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


def shortlist(
    job_id: JobArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    top: Annotated[int, typer.Option(min=1, help="Candidates of each workload besides the default.")] = 16,
    store: StoreOption = None,
) -> None:
    """Write the best candidates of a job for a compile target, for a machine that has the GPU to measure.

    Example: fettle jobs shortlist JOB --top 16 -o shortlist.json
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
