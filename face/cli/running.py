"""Brings a job to its end, here or on a server, with its progress on stderr; Ctrl-C ends it early."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from fettle.cli.output import stderr
from fettle.cli.progress import JobProgress
from fettle.graph.errors import FettleError, Unavailable

if TYPE_CHECKING:
    from fettle.service.client import Client
    from fettle.store.api import Store
    from fettle.store.jobs import Job, JobEvent


def run_here(store: Store, job_id: str, cancel: threading.Event) -> Job:
    """Run a stored job in a thread of this process; the main thread shows progress and takes Ctrl-C.

    A job that another process runs is followed instead. A second Ctrl-C leaves the job as it is in the store; tuning
    the same again goes on from there.
    """
    from fettle.search.follow import run_or_follow

    events: queue.Queue[JobEvent | None] = queue.Queue()
    outcome: list[Job | BaseException] = []

    def tell() -> None:
        stderr.print(f"job {job_id} runs in another process; following it (Ctrl-C leaves it alone)", highlight=False)

    def body() -> None:
        try:
            outcome.append(run_or_follow(store, job_id, cancel=cancel, on_event=events.put, on_follow=tell))
        except BaseException as error:  # handed to the main thread, which raises it
            outcome.append(error)
        finally:
            events.put(None)

    thread = threading.Thread(target=body, name="tune", daemon=True)
    title = store.get_job(job_id).spec.title
    try:
        with interrupts(cancel), JobProgress(stderr, title) as progress:
            thread.start()
            for event in _until_none(events):
                progress.show(event)
    except KeyboardInterrupt:
        return store.get_job(job_id)
    thread.join()
    result = outcome[0]
    if isinstance(result, BaseException):
        raise result
    return result


def _until_none(events: queue.Queue[JobEvent | None]) -> Iterator[JobEvent]:
    """Events as they come, up to None; signals are noticed meanwhile."""
    while True:
        try:
            event = events.get(timeout=0.2)
        except queue.Empty:
            continue
        if event is None:
            return
        yield event


def run_there(client: Client, job: Job, cancel: threading.Event, server: str) -> Job:
    """Follow a job of a server until it ends. The first Ctrl-C cancels it, a second one only stops following.

    Raises:
        Unavailable: the server stayed away; the hint says how to follow the job once it is back.
    """
    try:
        with (
            suppress(KeyboardInterrupt),
            interrupts(cancel, lambda: client.cancel(job.id)),
            JobProgress(stderr, job.spec.title) as progress,
        ):
            for event in client.watch(job.id):
                progress.show(event)
        return client.job(job.id)
    except Unavailable as error:
        hint = f"the job is stored, and goes on with the server: fettle jobs watch {job.id} --server {server}"
        raise Unavailable(error.message, hint=hint, details=error.details) from error


@contextmanager
def interrupts(cancel: threading.Event, also: Callable[[], object] | None = None) -> Iterator[None]:
    """While inside, the first Ctrl-C (or SIGTERM) sets ``cancel``; a second one interrupts at once."""

    def tell() -> None:
        assert also is not None
        try:
            also()
        except FettleError as error:  # the job has ended meanwhile, or the server is away
            stderr.print(f"fettle: {error}", highlight=False)

    def handle(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        stderr.print("stopping; keeping the best so far (again to abort)", highlight=False)
        if also is not None:
            threading.Thread(target=tell, daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
