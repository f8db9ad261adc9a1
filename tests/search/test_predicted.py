"""A job for a compile target: really compiled, ranked by prediction, never served as proven."""

from __future__ import annotations

import importlib.util

import pytest

from fettle.backends.api import Basis, MeasurePolicy
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload
from fettle.search.jobs import run_job
from fettle.store.jobs import JobState
from fettle.store.lookup import lookup
from fettle.store.memory import MemoryStore
from fettle.store.specs import Budget, JobSpec

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def test_a_compile_target_is_tuned_but_its_kernel_is_not_served() -> None:
    device = resolve_device("triton:sm_90")[1]
    workload = Workload.parse("elementwise shape=64x1024 act=f16 expr=x0+x1")
    store = MemoryStore()
    spec = JobSpec(((workload, 1),), device, "triton:sm_90", Budget(trials=6), MeasurePolicy(timeout=120.0))
    job, _ = store.create_job(spec)
    job = run_job(store, job.id)
    assert job.state is JobState.DONE, job.error
    (result,) = job.results
    assert result.basis is Basis.PREDICTED
    assert not result.verified
    assert result.best_s is not None
    assert result.best_s >= result.bound_s > 0.0
    records = store.job_records(job.id, workload.key)
    assert all(r.measurement.basis is Basis.PREDICTED and not r.verified for r in records if r.measurement.ok)
    (kernel,) = store.kernels()
    assert store.get_artifact(kernel.artifact_sha256).isa == ("sm_90",)
    found = lookup(store, workload, device)
    assert found.match == "none"
    assert [(miss.field, miss.nearest) for miss in found.misses] == [("basis", "predicted")]
