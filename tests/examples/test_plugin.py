"""The example backend, used as its author would, but not installed."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fettle.backends.api import Backend, DeviceText, MeasurePolicy
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import InvalidDevice
from fettle.graph.workload import Workload
from fettle.kernel import Kernel
from fettle.search.jobs import run_job
from fettle.store.jobs import JobState
from fettle.store.kernels import kernel_key
from fettle.store.memory import MemoryStore
from fettle.store.specs import Budget, JobSpec

FOLDER = Path(__file__).parents[2] / "examples" / "plugin"
SOFTMAX = Workload.parse("softmax rows=6 cols=40 act=f32")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """An instance of the class that the example registers."""
    monkeypatch.syspath_prepend(str(FOLDER))
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())
    module, name = project["project"]["entry-points"]["fettle.backends"]["toy"].split(":")
    backend = getattr(import_module(module), name)()
    assert isinstance(backend, Backend)
    assert backend.name == "toy"
    return backend


def test_example_backend_tunes_in_worker_processes_and_its_kernel_is_right(toy: Backend) -> None:
    store = MemoryStore()
    device = toy.device(DeviceText.parse("toy"))
    spec = JobSpec(((SOFTMAX, 1),), device, "toy", Budget(4), MeasurePolicy(min_sample=1e-4, samples=3))
    job = run_job(store, store.create_job(spec)[0].id, backend=toy)
    assert job.state is JobState.DONE, job.error
    (result,) = job.results
    assert result.verified
    assert (result.trials, result.failed) == (4, 0)
    stored = store.get_kernel(kernel_key(SOFTMAX, device))
    assert stored is not None
    artifact = store.get_artifact(stored.artifact_sha256)
    kernel = Kernel(SOFTMAX, device, artifact, toy.load(artifact), match="exact", stored=stored)
    x = np.random.default_rng(0).standard_normal((6, 40), np.float32)
    powers = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(kernel(x), powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_its_default_schedule_is_a_point_of_its_space(toy: Backend) -> None:
    (device,) = toy.devices()
    points = enumerate_space(toy.space(SOFTMAX, device))
    schedules = [points[i] for i in range(len(points))]
    assert len(schedules) == 8  # divisors of 6, in place or not
    assert toy.default(SOFTMAX, device) in schedules


def test_it_refuses_what_it_does_not_know_with_a_reason(toy: Backend) -> None:
    (device,) = toy.devices()
    refused = toy.supports(Workload.parse("rmsnorm rows=8 cols=8 act=f32"), device)
    assert not refused
    assert "softmax" in refused.reason
    with pytest.raises(InvalidDevice):
        toy.device(DeviceText.parse("toy,threads=3"))
