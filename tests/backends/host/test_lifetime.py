"""Workers end when their host does, however it ends, and when they are told to."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_backend import DEVICE, BrokenBackend, FakeBackend
from helpers import QUANTISED, alive, artifact, candidate, eventually, workers_of

from fettle.backends.api import MeasurePolicy
from fettle.backends.host.executor import Executor, Session
from fettle.backends.host.local import LocalExecutor
from fettle.backends.host.protocol import BUILD, Setup
from fettle.backends.host.running import Running
from fettle.graph.errors import Cancelled, Unavailable

PATIENT = MeasurePolicy(timeout=60.0)

HOST = """
import sys
sys.path.insert(0, {folder!r})
from fake_backend import DEVICE, FakeBackend
from helpers import QUANTISED, artifact, candidate
from fettle.backends.api import MeasurePolicy
from fettle.backends.host.local import LocalExecutor
executor = LocalExecutor(FakeBackend(), DEVICE, builders=2)
session = executor.open(QUANTISED, MeasurePolicy(timeout=60.0), 0)
assert session.evaluate(candidate(), artifact()).verified
print("ready", flush=True)
{then}
"""
HANG_BUILDING = "session.build([candidate(build='hang', tag=i) for i in range(4)])"
HANG_MEASURING = "session.evaluate(candidate(), artifact(run='hang'))"
HANG_SPINNING = "session.evaluate(candidate(), artifact(run='spin'))"


def host(then: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that owns an executor, and its workers once they are at work."""
    program = HOST.format(folder=str(Path(__file__).parent), then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    workers = workers_of(process.pid)
    assert len(workers) == 3
    return process, workers


@pytest.mark.parametrize(
    ("how", "then"),
    [
        (signal.SIGKILL, HANG_BUILDING),
        (signal.SIGKILL, HANG_SPINNING),
        (signal.SIGINT, HANG_BUILDING),
        (signal.SIGINT, HANG_MEASURING),
        (signal.SIGTERM, HANG_MEASURING),
    ],
)
def test_no_worker_outlives_its_host(how: signal.Signals, then: str) -> None:
    process, workers = host(then)
    process.send_signal(how)
    process.communicate(timeout=10)
    assert eventually(lambda: not any(map(alive, workers)))


def test_a_host_that_forgets_to_close_leaves_nothing() -> None:
    process, workers = host("import time; time.sleep(0.5)")
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert eventually(lambda: not any(map(alive, workers)))


def test_workers_do_not_share_the_terminals_interrupts() -> None:
    with LocalExecutor(FakeBackend(), DEVICE, builders=1):
        workers = workers_of(os.getpid())
        assert eventually(lambda: all(os.getsid(worker) == worker for worker in workers))


@pytest.mark.parametrize("what", ["build", "evaluate", "compare"])
def test_closing_from_another_thread_cancels(what: str) -> None:
    with LocalExecutor(FakeBackend(), DEVICE, builders=1) as executor:
        session = executor.open(QUANTISED, PATIENT, 0)
        timer = threading.Timer(0.5, executor.close)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Cancelled):
            begin(what, session)
        assert time.monotonic() - started < 10
        timer.join()
        with pytest.raises(Cancelled):
            session.evaluate(candidate(), artifact())
        session.close()
        executor.close()


def begin(what: str, session: Session) -> object:
    """A call that does not end."""
    if what == "build":
        return session.build([candidate(build="hang", tag=i) for i in range(3)])
    if what == "evaluate":
        return session.evaluate(candidate(), artifact(run="hang"))
    return session.compare([artifact(run="hang")], 3)


def test_a_measurement_that_waits_for_builds_is_cancelled_too() -> None:
    with LocalExecutor(FakeBackend(), DEVICE, builders=1) as executor:
        session = executor.open(QUANTISED, PATIENT, 0)
        session.build([candidate()])  # the builder is up
        errors: list[BaseException] = []

        def build() -> None:
            try:
                session.build([candidate(build="hang")])
            except Cancelled as error:
                errors.append(error)

        thread = threading.Thread(target=build)
        thread.start()
        time.sleep(0.5)
        threading.Timer(0.3, executor.close).start()
        with pytest.raises(Cancelled):
            session.evaluate(candidate(), artifact())
        thread.join(10)
        assert len(errors) == 1


def test_a_backend_that_cannot_start_is_unavailable_and_says_why() -> None:
    with (
        LocalExecutor(BrokenBackend(), DEVICE, builders=1) as executor,
        executor.open(QUANTISED, PATIENT, 0) as session,
    ):
        with pytest.raises(Unavailable, match="no such hardware"):
            session.build([candidate()])
        with pytest.raises(Unavailable, match="no such hardware"):
            session.evaluate(candidate(), artifact())


def test_a_system_without_descriptors_is_unavailable_and_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    before = os.listdir("/proc/self/fd")
    pipe = os.pipe
    for pipes_left in (0, 1):
        left = iter([pipe] * pipes_left)
        monkeypatch.setattr(os, "pipe", lambda left=left: next(left, refuse)())
        with pytest.raises(Unavailable, match="Too many open files"):
            Running.start(Setup("fake_backend:FakeBackend", DEVICE, BUILD), {}, 1 << 30)
        assert os.listdir("/proc/self/fd") == before


def test_threads_that_end_take_no_worker_along() -> None:
    """PR_SET_PDEATHSIG would kill workers when the thread that started them ends."""
    made: list[Executor] = []
    thread = threading.Thread(target=lambda: made.append(LocalExecutor(FakeBackend(), DEVICE, builders=1)))
    thread.start()
    thread.join()
    with made[0] as executor, executor.open(QUANTISED, PATIENT, 0) as session:
        workers = workers_of(os.getpid())
        assert session.evaluate(candidate(), artifact()).verified
        assert all(map(alive, workers))


def begin_and_interrupt(what: str, session: Session) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin(what, session)


@pytest.mark.parametrize("what", ["build", "evaluate", "compare"])
def test_an_interrupted_call_leaves_the_executor_usable(what: str) -> None:
    with (
        LocalExecutor(FakeBackend(), DEVICE, builders=1) as executor,
        executor.open(QUANTISED, PATIENT, 0) as session,
    ):
        session.build([candidate()])
        with pytest.raises(KeyboardInterrupt):
            begin_and_interrupt(what, session)
        [result] = session.build([candidate()])
        assert result.artifact is not None
        assert session.evaluate(result.candidate, result.artifact).verified


def test_threads_share_an_executor() -> None:
    good: list[bool] = []

    def tune(seed: int) -> None:
        with executor.open(QUANTISED, PATIENT, seed) as session:
            for result in session.build([candidate(tag=i) for i in range(10)]):
                assert result.artifact is not None
                good.append(session.evaluate(result.candidate, result.artifact).verified)

    with LocalExecutor(FakeBackend(), DEVICE, builders=2) as executor:
        threads = [threading.Thread(target=tune, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert good == [True] * 30
