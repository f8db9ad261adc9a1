"""Several processes on one store, and a process that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fettle.graph.errors import Conflict
from fettle.store.open import open_store
from tests.store.samples import GEMV

ROOT = Path(__file__).parents[2]


def _start(url: str, task: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.worker", url, task, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(params=["sqlite", "server"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that does not exist yet."""
    if request.param == "server":
        return str(request.getfixturevalue("server_url"))
    return str(tmp_path / "a.sqlite3")


def test_processes_that_open_a_fresh_file_at_once_all_get_it(tmp_path: Path) -> None:
    workers = [_start("", "open", number) for number in range(3)]
    for file in ["", *(str(tmp_path / f"{i}.sqlite3") for i in range(20))]:
        moment = time.time() + 0.02
        for worker in workers:
            assert worker.stdin is not None
            if file:
                worker.stdin.write(f"{moment} {file}\n")
                worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == ("opened\n" if file else "ready\n")
    for worker in workers:
        worker.communicate(timeout=10)
        assert worker.returncode == 0


def test_processes_share_a_fresh_store_from_its_first_moment(url: str) -> None:
    workers = [_start(url, "hammer", number) for number in range(2)]
    said = [worker.communicate(timeout=60)[0].split("\n") for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sorted(lines[0].split()[0] for lines in said) == ["created", "joined"]
    assert len({lines[0].split()[1] for lines in said}) == 1
    numbers = [int(line) for lines in said for line in lines[1:] if line]
    assert sorted(numbers) == list(range(1, 81))
    with open_store(url) as store:
        (job,) = store.list_jobs().jobs
        events = store.events(job.id)
        assert [event.number for event in events] == list(range(1, 81))
        for process in range(2):
            assert [event.data["i"] for event in events if event.data["process"] == process] == list(range(40))
        assert job.trials == len(store.job_records(job.id, GEMV.key)) == 60


def test_claim_of_a_killed_process_is_free_again(url: str) -> None:
    worker = _start(url, "claim", 0)
    assert worker.stdout is not None
    job_id = worker.stdout.readline().strip()
    with open_store(url) as store:
        with pytest.raises(Conflict, match="another process"), store.claim_job(job_id):
            pass
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(timeout=10)
        worker.stdout.close()
        for _ in range(100):  # a server takes a moment to notice
            with contextlib.suppress(Conflict), store.claim_job(job_id):
                return
            time.sleep(0.05)
    raise AssertionError("the claim outlived its process")


def test_killed_writer_loses_nothing_committed(url: str) -> None:
    worker = _start(url, "endless", 0)
    assert worker.stdout is not None
    job_id = worker.stdout.readline().strip()
    said = [worker.stdout.readline().split() for _ in range(30)]
    time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)
    said += [line.split() for line in worker.stdout if line.endswith("\n")]
    worker.wait(timeout=10)
    worker.stdout.close()
    records = max(int(line[1]) for line in said if line[0] == "record")
    events = max(int(line[1]) for line in said if line[0] == "event")
    with open_store(url) as store:
        job = store.get_job(job_id)
        found = store.job_records(job_id, GEMV.key)
        # It may have died between a commit and the line that tells of it.
        assert len(found) - records in (0, 1)
        assert [record.candidate.schedule["tile"] for record in found] == list(range(1, len(found) + 1))
        assert job.trials == len(found)
        assert len(store.events(job_id)) - events in (0, 1)
        assert store.append_event(job_id, "state", {"state": "paused"}).number == len(store.events(job_id))
