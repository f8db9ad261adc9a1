"""Compilers that hang, crash, raise or eat memory cost their own candidate, and no process outlives them."""

from __future__ import annotations

import time
from pathlib import Path

from fettle.backends.api import Candidate, MeasurePolicy, Outcome, Schedule
from fettle.backends.registry import resolve_device
from fettle.backends.triton.executor import CompileExecutor
from fettle.graph.workload import Workload
from tests.backends.triton.faulty import FAULTS, FaultyBackend

EXPECTED = {
    "none": None,
    "hang": Outcome.TIMEOUT,
    "crash": Outcome.CRASH,
    "raise": Outcome.COMPILE_ERROR,
    "memory": Outcome.CRASH,
}


def sleepers() -> set[int]:
    """Processes that stand in for assemblers that never end."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes() == b"sleep\x003600\x00":
                found.add(int(process.name))
        except OSError:
            continue
    return found


def test_faults_in_the_pool_are_contained() -> None:
    device = resolve_device("triton:sm_90")[1]
    workload = Workload.parse("softmax rows=8 cols=64 act=f16")
    order = [1, 2, 4, 1, 8, 16, 1]
    schedules = [Schedule.of(block=64, rows=1, warps=warps, stages=1) for warps in order]
    before = sleepers()
    with (
        CompileExecutor(FaultyBackend(), device, builders=2, memory_limit=320 << 20) as executor,
        executor.open(workload, MeasurePolicy(timeout=8.0), seed=0) as session,
    ):
        results = session.build([Candidate(workload, device, schedule) for schedule in schedules])
        outcomes = [None if r.failure is None else r.failure.outcome for r in results]
        assert outcomes == [EXPECTED[FAULTS[warps]] for warps in order]
        built = [r for r in results if r.artifact is not None]
        assert all(session.evaluate(r.candidate, r.artifact).measurement.ok for r in built if r.artifact)
    deadline = time.monotonic() + 5.0
    while sleepers() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not sleepers() - before, "the whole process group goes"
