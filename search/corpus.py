"""All trials of a store as one table, for whoever studies or learns from them: a row a trial, failures included."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fettle.backends.api import Backend, Candidate, Device, Value
from fettle.backends.registry import get_backend
from fettle.graph.workload import Workload
from fettle.store.api import Store, Trial
from fettle.store.parquet import arrow, parquet_file

ROW_GROUP = 256
"""Trials read, lowered and written at a time: what has to fit in memory."""


def schema() -> Any:
    """The columns. Raises Unsupported without pyarrow."""
    a = arrow()
    text, number = a.string(), a.float64()
    columns = [
        ("job", text),
        ("workload", text),  # canonical text
        ("workload_key", text),
        ("operator", text),
        ("device", text),  # its text, then the identity that its key is made of
        ("device_key", text),
        ("device_label", text),
        ("device_facts", text),  # JSON
        ("device_limits", text),  # JSON
        ("schedule", text),  # JSON
        ("program", text),
        ("program_is_lowered", a.bool_()),  # False: the schedule's text, where there is no program beside it
        ("features", a.map_(text, number)),
        ("outcome", text),
        ("message", text),
        ("basis", text),
        ("mode", text),
        ("samples_s", a.list_(number)),
        ("time_s", number),  # null for a failure
        ("energy_j", number),  # null where the device does not tell
        ("verified", a.bool_()),
        ("max_error", number),
        ("error_ratio", number),
        ("predicted_log", number),  # log(time / bound) expected before the trial
        ("predicted_log_std", number),
        ("trial_s", number),  # wall time the trial took, build included
        ("toolchain", text),
        ("space_version", text),
        ("artifact", text),
    ]
    return a.schema(columns)


def export_corpus(
    store: Store,
    path: Path,
    *,
    job_id: str | None = None,
    device_key: str | None = None,
    operator: str | None = None,
    programs: bool = True,
    on_rows: Callable[[int], None] = lambda count: None,
) -> int:
    """Write trials in order of arrival to a Parquet file, which appears whole or not at all; how many there are.

    Args:
        job_id, device_key, operator: only such trials.
        programs: lower every candidate again where its backend can; else all programs are schedules.
        on_rows: told how many more rows were written.

    Raises:
        NotFound: no such job.
        Unsupported: pyarrow is not installed.
        Unavailable: the file cannot be written.
    """
    if job_id is not None:
        store.get_job(job_id)
    lowering = Lowering() if programs else None
    count = 0
    with parquet_file(path, schema()) as append:
        after: int | None = 0
        while after is not None:
            page = store.trials(after, ROW_GROUP, job_id=job_id, device_key=device_key, operator=operator)
            if page.trials:
                append([_row(trial, lowering) for trial in page.trials])
            count += len(page.trials)
            on_rows(len(page.trials))
            after = page.next
    return count


class Lowering:
    """Programs of candidates, as the backends at hand lower them now."""

    def program(self, candidate: Candidate, space_version: str) -> str:
        """Empty if there is none: the backend has none or is not installed, the candidate cannot be lowered, or it was
        made for another version of the space, whose parameters meant something else."""
        try:
            backend = get_backend(candidate.device.backend)
            if self._version(backend, candidate.workload, candidate.device) != space_version:
                return ""
            return backend.program(candidate)
        except Exception:  # of a plugin, or of a compiler that choked on this candidate, as its outcome says
            return ""

    @functools.lru_cache(maxsize=256)  # noqa: B019  # lives as long as one export
    def _version(self, backend: Backend, workload: Workload, device: Device) -> str:
        return backend.space(workload, device).version


def _row(trial: Trial, lowering: Lowering | None) -> dict[str, Any]:
    record = trial.record
    candidate, measurement = record.candidate, record.measurement
    workload, device = candidate.workload, candidate.device
    program = lowering.program(candidate, record.space_version) if lowering is not None else ""
    return {
        "job": trial.job_id,
        "workload": str(workload),
        "workload_key": workload.key,
        "operator": workload.operator,
        "device": str(device),
        "device_key": device.key,
        "device_label": device.label,
        "device_facts": _json(dict(device.facts)),
        "device_limits": _json(dict(device.limits)),
        "schedule": _json(candidate.schedule.as_dict()),
        "program": program or str(candidate.schedule),
        "program_is_lowered": bool(program),
        "features": list(record.features),
        "outcome": measurement.outcome.value,
        "message": measurement.message,
        "basis": measurement.basis.value,
        "mode": record.policy.mode,
        "samples_s": list(measurement.samples),
        "time_s": measurement.time if measurement.ok else None,
        "energy_j": measurement.energy,
        "verified": record.verified,
        "max_error": record.max_error,
        "error_ratio": record.error_ratio,
        "predicted_log": record.predicted,
        "predicted_log_std": record.predicted_std,
        "trial_s": record.seconds,
        "toolchain": record.toolchain,
        "space_version": record.space_version,
        "artifact": record.artifact_sha256,
    }


def _json(values: dict[str, Value]) -> str:
    return json.dumps(values, ensure_ascii=False)
