"""What only rows in a database can be: unreadable, or of another version."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from fettle.graph.errors import DataLoss, StoreUnavailable, Unavailable
from fettle.store.ids import next_id
from fettle.store.jobs import JobState
from fettle.store.open import open_store
from fettle.store.sql.store import SqlStore
from tests.store.samples import ARTIFACT, CPU, GEMV, PROFILE, SOFTMAX, kernel, record, spec


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.sqlite3"


@pytest.fixture
def store(file: Path) -> Iterator[SqlStore]:
    with open_store(str(file)) as store:
        assert isinstance(store, SqlStore)
        yield store


def _execute(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        assert connection.execute(statement).rowcount == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_file_that_was_removed_or_replaced_is_not_written_any_more(store: SqlStore, file: Path, replaced: bool) -> None:
    store.create_job(spec(1))
    file.unlink()
    if replaced:
        open_store(file).close()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            store.create_job(spec(2))
        with pytest.raises(StoreUnavailable, match="removed or replaced"), ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: store.list_jobs(), range(8)))
    assert file.exists() == replaced
    if replaced:
        with open_store(file) as other:
            assert other.list_jobs().jobs == ()


def test_operator_of_a_newer_fettle_is_left_out_with_a_warning(
    store: SqlStore, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, _ = store.create_job(spec(1, workloads=((GEMV, 1),)))
    new, _ = store.create_job(spec(2, workloads=((SOFTMAX, 1),)))
    store.add_record(old.id, record())
    store.add_record(new.id, record(workload=SOFTMAX))
    store.put_artifact(ARTIFACT)
    store.put_kernel(kernel())
    store.put_kernel(kernel(SOFTMAX))
    _execute(file, f"UPDATE workloads SET data = replace(data, 'softmax', 'hypermax') WHERE key = '{SOFTMAX.key}'")
    with open_store(str(file)) as reader, caplog.at_level(logging.WARNING):
        assert reader.records() == (record(),)
        assert reader.kernels() == (kernel(),)
        assert reader.get_kernel(kernel(SOFTMAX).key) is None
        assert [job.id for job in reader.list_jobs().jobs] == [old.id]
        with pytest.raises(DataLoss, match=new.id):
            reader.get_job(new.id)
    assert "left out record" in caplog.text
    assert "left out kernel" in caplog.text
    assert "left out job" in caplog.text


UNREADABLE = ["", "{", "[]", "null", '{"candidate": 7, "workloads": 7}']


@pytest.mark.parametrize("data", UNREADABLE)
def test_unreadable_record_is_left_out(store: SqlStore, file: Path, data: str) -> None:
    job, _ = store.create_job(spec())
    store.add_record(job.id, record(1))
    store.add_record(job.id, record(2))
    _execute(file, f"UPDATE records SET data = '{data}' WHERE id = 1")
    assert store.records() == (record(2),)


@pytest.mark.parametrize("change", [*(f"spec = '{data}'" for data in UNREADABLE), "state = 'daydreaming'"])
def test_unreadable_job_does_not_hide_the_others(store: SqlStore, file: Path, change: str) -> None:
    bad, _ = store.create_job(spec(1))
    good, _ = store.create_job(spec(2))
    _execute(file, f"UPDATE jobs SET {change} WHERE id = '{bad.id}'")
    assert store.list_jobs().jobs == (good,)
    with pytest.raises(DataLoss, match=bad.id):
        store.get_job(bad.id)


def test_unreadable_profile_is_measured_again(store: SqlStore, file: Path) -> None:
    store.put_profile(PROFILE)
    _execute(file, "UPDATE profiles SET data = '{}'")
    assert store.get_profile(CPU.key) is None


def test_people_can_query_columns(store: SqlStore, file: Path) -> None:
    job, _ = store.create_job(spec())
    store.add_record(job.id, record(4))
    store.put_artifact(ARTIFACT)
    store.put_kernel(kernel())
    with sqlite3.connect(file) as connection:
        query = "SELECT outcome, median_s, toolchain, space_version, record_version FROM records"
        trials = connection.execute(query)
        assert trials.fetchall() == [("ok", 4 * 1.1e-6, "tvm-0.27 llvm-22", "gemv-3", 1)]
        winner = connection.execute("SELECT operator, best_s, isa, version FROM kernels")
        assert winner.fetchall() == [("matmul", 1e-6, "avx2 fma", 1)]


def test_every_query_of_the_interface_uses_an_index(store: SqlStore) -> None:
    queries = {
        "SELECT * FROM jobs WHERE key = 'x' AND state IN ('queued', 'running', 'paused')": "ix_jobs_in_flight",
        "SELECT * FROM jobs WHERE id < 'x' ORDER BY id DESC LIMIT 5": "sqlite_autoindex_jobs_1",
        "SELECT * FROM job_events WHERE job_id = 'x' AND number > 5 ORDER BY number": "sqlite_autoindex_job_events_1",
        "SELECT * FROM job_results WHERE job_id = 'x'": "uq_job_results|sqlite_autoindex_job_results_1",
        "SELECT * FROM records WHERE job_id = 'x' AND workload_key = 'y' ORDER BY id": "ix_records_job_id",
        "SELECT * FROM records WHERE workload_key = 'x' AND device_key = 'y' ORDER BY id": "ix_records_workload_key",
        "SELECT * FROM records WHERE device_key = 'y' ORDER BY id DESC": "ix_records_device_key",
        "SELECT * FROM kernels WHERE device_key = 'x' AND operator = 'y' ORDER BY created": "ix_kernels_device_key",
    }
    with store._reader.connect() as connection:
        for query, index in queries.items():
            plan = " ".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))
            assert any(name in plan for name in index.split("|")), f"{query}: {plan}"
            assert "TEMP B-TREE" not in plan


def test_locked_database_is_unavailable_in_the_end(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.store.sql.engine.BUSY_SECONDS", 0.05)
    with open_store(str(file)) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.list_jobs().jobs == ()
        with pytest.raises(Unavailable, match="locked"):
            store.create_job(spec())
        other.execute("ROLLBACK")
        other.close()
        assert store.create_job(spec())[1]


def test_damaged_database_is_data_loss(file: Path) -> None:
    with open_store(str(file)) as store:
        job, _ = store.create_job(spec())
        for tile in range(1, 40):
            store.add_record(job.id, record(tile))
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(DataLoss, match="damaged"):
        open_store(str(file)).records()


def test_ids_sort_even_when_the_clock_steps_back(store: SqlStore) -> None:
    store._clock = lambda: 1_700_000_000.0
    first, _ = store.create_job(spec(1))
    store._clock = lambda: 1_600_000_000.0
    second, _ = store.create_job(spec(2))
    assert second.id > first.id
    assert second.created < first.created
    assert store.move_job(second.id, [JobState.QUEUED], JobState.DONE)


def test_id_is_the_time_first() -> None:
    ids = [next_id(seconds) for seconds in (0.001, 1.0, 1_700_000_000.0, 1_700_000_000.001, 2**40)]
    assert ids == sorted(ids)
    assert all(len(each) == 13 for each in ids)
    assert next_id(1.7e9)[:9] == next_id(1.7e9)[:9]
