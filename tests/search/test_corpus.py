"""The corpus: every trial of every job once, with all that is known of it, in a file that is whole or not there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from pyarrow import parquet

from fettle.backends.api import Candidate, Device, Outcome, Record, Schedule
from fettle.backends.cpu import device as cpu
from fettle.backends.registry import get_backend
from fettle.graph.errors import NotFound, Unavailable
from fettle.graph.workload import Workload
from fettle.search import corpus
from fettle.search.corpus import export_corpus
from fettle.store.memory import MemoryStore
from tests.store.samples import CPU, GEMV, NPU, SOFTMAX, record, spec

GONE = Device("a-plugin-that-is-not-installed", facts={"β": 1.5, "fast": True}, limits={"threads": 2})


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def add(store: MemoryStore, *trials: Record, seed: int = 0) -> str:
    job, _ = store.create_job(spec(seed))
    for trial in trials:
        store.add_record(job.id, trial)
    return job.id


def test_a_row_has_all_that_a_trial_knows(store: MemoryStore, tmp_path: Path) -> None:
    trial = record(8, device=GONE)
    job = add(store, trial)
    assert export_corpus(store, tmp_path / "c.parquet") == 1
    (row,) = read(tmp_path / "c.parquet")
    assert (row["job"], row["workload"], row["workload_key"]) == (job, str(GEMV), GEMV.key)
    assert (row["device"], row["device_key"]) == (str(GONE), GONE.key)
    assert json.loads(row["device_facts"]) == dict(GONE.facts)
    assert json.loads(row["device_limits"]) == dict(GONE.limits)
    assert json.loads(row["schedule"]) == {"tile": 8, "order": "nk"}
    assert row["program"] == "order=nk tile=8"
    assert row["program_is_lowered"] is False
    assert dict(row["features"]) == {"loads": 12.0, "spills": 0.0}
    assert row["samples_s"] == [8e-6, 8 * 1.1e-6, 8 * 1.3e-6]
    assert row["time_s"] == 8 * 1.1e-6
    assert (row["outcome"], row["basis"], row["verified"], row["energy_j"]) == ("ok", "measured", True, None)
    assert row.keys() == {field.name for field in corpus.schema()}


def test_failures_are_rows_without_a_time(store: MemoryStore, tmp_path: Path) -> None:
    add(store, record(2, outcome=Outcome.CRASH))
    export_corpus(store, tmp_path / "c.parquet")
    (row,) = read(tmp_path / "c.parquet")
    assert (row["outcome"], row["message"], row["time_s"], row["samples_s"]) == ("crash", "it broke", None, [])


def test_trials_of_all_jobs_come_in_row_groups(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "ROW_GROUP", 2)
    one = add(store, record(1), record(2), record(3, device=NPU))
    two = add(store, record(1), record(4, workload=SOFTMAX), seed=1)
    told: list[int] = []
    path = tmp_path / "c.parquet"
    assert export_corpus(store, path, on_rows=told.append) == sum(told) == 5
    assert [row["job"] for row in read(path)] == [one] * 3 + [two] * 2
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert export_corpus(store, path, job_id=two) == 2  # replaces the file
    assert export_corpus(store, path, device_key=NPU.key) == 1
    assert export_corpus(store, path, operator="softmax") == 1
    assert export_corpus(store, path, device_key=CPU.key, operator="conv2d") == 0
    assert read(path) == []


def test_the_program_is_lowered_again_unless_the_space_changed(store: MemoryStore, tmp_path: Path) -> None:
    backend, workload, device = (
        get_backend("cpu"),
        Workload.parse("softmax rows=4 cols=32 act=f32"),
        cpu.default_device(),
    )
    candidate = Candidate(workload, device, backend.default(workload, device))
    version = backend.space(workload, device).version
    now = attrs.evolve(record(1), candidate=candidate, space_version=version)
    malformed = attrs.evolve(candidate, schedule=Schedule.of(tile=4))
    add(store, now, attrs.evolve(now, candidate=malformed))
    add(store, attrs.evolve(now, space_version="0"), seed=1)
    path = tmp_path / "c.parquet"
    export_corpus(store, path)
    lowered, broken, older = read(path)
    assert lowered["program_is_lowered"]
    assert re.search(r"def \w+\(.*T\.(handle|Buffer)", lowered["program"], re.S)
    assert (broken["program_is_lowered"], broken["program"]) == (False, "tile=4")
    assert not older["program_is_lowered"]
    assert older["program"] == str(candidate.schedule)
    export_corpus(store, path, programs=False)
    assert not any(row["program_is_lowered"] for row in read(path))


def test_what_cannot_be_written_is_said_and_leaves_nothing(store: MemoryStore, tmp_path: Path) -> None:
    add(store, record(1))
    with pytest.raises(NotFound):
        export_corpus(store, tmp_path / "c.parquet", job_id="0000000000000")
    with pytest.raises(Unavailable, match="cannot be written"):
        export_corpus(store, tmp_path / "none" / "c.parquet")
    store.trials = _failing(store)  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="gone"):
        export_corpus(store, tmp_path / "c.parquet")
    assert list(tmp_path.iterdir()) == []


def _failing(store: MemoryStore) -> Any:
    real = store.trials

    def trials(after: int = 0, limit: int = 1, **only: Any) -> Any:
        if after:
            raise Unavailable("the server is gone")
        return real(after, 1, **only)

    return trials
