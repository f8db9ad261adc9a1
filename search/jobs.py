"""Runs one stored job from beginning to end, or from where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fettle.store.api import Store
from fettle.store.values import Job, JobEvent


def run_job(
    store: Store,
    job_id: str,
    *,
    cancel: threading.Event | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Job:
    """Contract only; written in the next commit."""
    raise SystemError("not written yet")
