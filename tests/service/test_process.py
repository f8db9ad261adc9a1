"""A server in a process of its own, stopped and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fettle.service.client import connect
from fettle.store.jobs import JobEvent, JobState
from fettle.store.open import open_store
from tests.service.paper import matmul

PROGRAM = Path(__file__).with_name("steps_server.py")
TRIALS = 60


@contextmanager
def process(listen: str, store: Path | str, trials: int = TRIALS) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server and its address; killed at the end if it still runs."""
    command = [sys.executable, str(PROGRAM), listen, str(store), str(trials)]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        yield started, started.stdout.readline().removeprefix("listening ").strip()
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def watch_in_thread(address: str, job_id: str) -> tuple[threading.Thread, list[JobEvent]]:
    events: list[JobEvent] = []

    def watch() -> None:
        with connect(address) as client:
            events.extend(client.watch(job_id))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread, events


def test_killed_server_goes_on_with_its_job_and_watchers_notice_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite3"
    with process("127.0.0.1:0", store) as (server, address):
        with connect(address) as client:
            job = client.submit(workloads=[(matmul(), 1)], device="paper")
            thread, seen = watch_in_thread(address, job.id)
            for event in client.watch(job.id):
                if event.kind == "trial" and event.data["trial"] == 5:
                    break
        server.send_signal(signal.SIGKILL)
        server.wait(10)
    with open_store(str(store)) as opened:
        cut_off = opened.get_job(job.id)
        before = opened.events(job.id)
    assert cut_off.state is JobState.RUNNING
    with process(address, store) as (server, _):
        with connect(address) as client:
            finished = client.wait(job.id)
        thread.join(10)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert finished.state is JobState.DONE
    with open_store(str(store)) as opened:
        stored = opened.events(job.id)
    assert stored[: len(before)] == before
    assert seen == list(stored)
    assert [e.data["trial"] for e in stored if e.kind == "trial"] == list(range(1, TRIALS + 1))


def test_terminated_server_pauses_its_job_and_exits_cleanly(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite3"
    for number in (signal.SIGTERM, signal.SIGINT):
        with process("127.0.0.1:0", store) as (server, address), connect(address) as client:
            job = client.submit(workloads=[(matmul(), 1)], device="paper", seed=int(number))
            events = client.watch(job.id)
            while next(events).kind != "trial":
                pass
            server.send_signal(number)
            assert server.wait(10) == 0
            events.close()
        with open_store(str(store)) as opened:
            assert opened.get_job(job.id).state is JobState.PAUSED
            opened.request_cancel(job.id)
