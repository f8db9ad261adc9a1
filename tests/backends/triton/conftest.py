from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import pytest

from fettle.backends.api import Candidate, MeasurePolicy, Value
from fettle.backends.host.executor import TrialResult
from fettle.backends.host.local import LocalExecutor
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.backends.triton.backend import target_of
from fettle.backends.triton.lowbit.defaults import converted
from fettle.graph.workload import Workload

Prove = Callable[..., TrialResult]

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Triton."""
    for item in items:
        if "tests/backends/triton" in str(item.path):
            item.add_marker(needs_triton)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compile is compiled, and stays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.fixture(scope="session")
def interpreter() -> Iterator[LocalExecutor]:
    """Workers that interpret kernels."""
    backend, device = resolve_device("triton:interpreter")
    with LocalExecutor(backend, device, builders=1) as executor:
        yield executor


@pytest.fixture
def prove(interpreter: LocalExecutor) -> Prove:
    """Run a schedule of a workload through the gate that kernels of every backend pass.

    Called with the workload's text and the parameters that differ from its default schedule (for low-bit products,
    the one that converts codes); ``random=n`` instead takes the n-th of the space's points drawn with seed n.
    """
    backend, device = resolve_device("triton:interpreter")

    def run(text: str, *, random: int | None = None, **changes: Value) -> TrialResult:
        import numpy as np

        workload = Workload.parse(text)
        points = enumerate_space(backend.space(workload, device))
        if random is None:
            lowbit = backend.family(workload, device).name == "lowbit"
            base = converted(workload, target_of(device)) if lowbit else backend.default(workload, device)
            if lowbit and changes.get("split") == 1:
                changes.setdefault("reduce", "launch")
            schedule = points.schedule(base.as_dict() | changes)
        else:
            schedule = points[points.sample(np.random.default_rng(random), 1)[0]]
        candidate = Candidate(workload, device, schedule)
        with interpreter.open(workload, MeasurePolicy(timeout=60.0), seed=0) as session:
            (built,) = session.build([candidate])
            assert built.artifact is not None, built.failure
            result = session.evaluate(candidate, built.artifact)
        assert result.error_ratio is not None, result.measurement.message
        return result

    return run
