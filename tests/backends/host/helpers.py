"""Workloads, candidates and a look at the process table, shared by the tests of this folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from fake_backend import DEVICE

from fettle.backends.api import Artifact, Candidate, MeasurePolicy, Schedule, Value
from fettle.backends.host.executor import Session, TrialResult
from fettle.graph.workload import Workload

QUANTISED = Workload.parse("matmul m=2 n=24 k=64 act=f32 weight=u4:32:zp compute=f32")
POLICY = MeasurePolicy(timeout=1.0, samples=3)


def candidate(workload: Workload = QUANTISED, **values: Value) -> Candidate:
    return Candidate(workload, DEVICE, Schedule.of(**values))


def artifact(workload: Workload = QUANTISED, *, layout: str = "", **values: Value) -> Artifact:
    return Artifact(b"", "fake", "fake-1", "kernel", str(workload), Schedule.of(**values), weight_layout=layout)


def evaluate(session: Session, run: str = "ok") -> TrialResult:
    return session.evaluate(candidate(run=run), artifact(run=run))


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def workers_of(pid: int) -> list[int]:
    """Its child processes that run Python; a database server that other tests have started is none of them."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return [child for child in found if b"python" in Path(f"/proc/{child}/cmdline").read_bytes()]
