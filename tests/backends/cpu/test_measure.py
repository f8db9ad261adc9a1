from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import pytest

from fettle.backends.api import Artifact, Basis, Candidate, DeviceText, MeasurePolicy, Outcome
from fettle.backends.cpu import CpuBackend, measure, threads
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.loader import CpuKernel, load
from fettle.backends.cpu.views import TensorView, aligned, copied, empty
from fettle.backends.cpu.waiting import Waiting
from fettle.graph import data
from fettle.graph.errors import InvalidArgument
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

QUICK = MeasurePolicy(min_sample=0.0005, samples=3, warmup=1)


@pytest.fixture
def kernel(backend: CpuBackend, artifact: Artifact) -> CpuKernel:
    loaded = backend.load(artifact)
    assert isinstance(loaded, CpuKernel)
    return loaded


@pytest.fixture
def operands(artifact: Artifact) -> Sequence[Operand]:
    return data.operands(Workload.parse(artifact.workload), 0)


@pytest.fixture
def out() -> np.ndarray:
    return np.zeros((3, 20), np.float32)


def test_samples_are_positive_and_as_many_as_the_policy_says(
    backend: CpuBackend, kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray
) -> None:
    result = backend.measure(kernel, operands, out, QUICK)
    assert result.outcome is Outcome.OK
    assert result.basis is Basis.MEASURED
    assert len(result.samples) == 3
    assert min(result.samples) > 0


def test_a_measurement_says_how_long_its_threads_waited(
    kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    threads.use(2)  # as a kernel of several threads leaves it; this one has no use for a worker
    waited = measure.measure(kernel, operands, out, QUICK).waited
    assert waited is None or 0.0 <= waited <= 1.0
    monkeypatch.setattr(measure, "Waiting", partial(Waiting, tmp_path))
    assert measure.measure(kernel, operands, out, QUICK).waited is None, "no file says so"
    task = tmp_path / str(threading.get_native_id())
    task.mkdir()
    (task / "schedstat").write_text("0 0 0")
    assert measure.measure(kernel, operands, out, QUICK).waited == 0.0


def test_the_team_is_the_calling_thread_and_the_workers_in_use() -> None:
    def teams() -> list[tuple[int, ...]]:
        found = []
        for count in (1, 2, 1):
            threads.use(count)
            found.append((threading.get_native_id(), *threads.team()))
        return found

    with ThreadPoolExecutor(1) as pool:
        alone, both, alone_again = pool.submit(teams).result()
    assert alone == alone_again == (both[0], both[0])
    assert both[:2] == alone
    assert len(both) == 1 + min(2, len(cpu.usable_cores()))


def test_a_sample_of_a_short_kernel_is_many_calls(
    kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray
) -> None:
    counters = dict(measure.measure(kernel, operands, out, QUICK).counters)
    assert counters["calls_per_sample"] > 10
    assert counters["copies"] == 1


def test_calls_of_a_sample_are_remembered_for_the_next_measurement(
    kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finals ask for one sample at a time, each of which would else begin with a single call."""
    first = dict(measure.measure(kernel, operands, out, QUICK).counters)["calls_per_sample"]
    asked: list[int] = []

    def slow(module: object, entry: str, calls: int, arguments: Sequence[TensorView | int]) -> float:
        asked.append(calls)
        return 1.0

    monkeypatch.setattr(measure, "evaluate", slow)
    measure.measure(kernel, operands, out, attrs.evolve(QUICK, samples=1))
    assert asked[:2] == [first, first]  # calibration, which suffices, and the sample


def test_a_call_that_fills_a_sample_is_made_once_a_sample(
    kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*arguments: object) -> None:
        nonlocal calls
        calls += 1

    monkeypatch.setattr(kernel, "function", counted)
    policy = MeasurePolicy(min_sample=0.0, samples=5, warmup=2)
    counters = dict(measure.measure(kernel, operands, out, policy).counters)
    assert counters["calls_per_sample"] == 1
    assert calls == 2 + 5


def test_measuring_computes_the_result(kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray) -> None:
    measure.measure(kernel, operands, out, QUICK)
    np.testing.assert_allclose(out, np.asarray(operands[0]) @ np.asarray(operands[1]), rtol=1e-4, atol=1e-5)


def test_cold_measurement_rotates_more_constants_than_the_last_level_cache_holds(
    monkeypatch: pytest.MonkeyPatch, kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray
) -> None:
    monkeypatch.setattr(cpu, "last_level_bytes", lambda device: 1 << 20)
    policy = MeasurePolicy(mode="cold", min_sample=0.0005, samples=2, warmup=0)
    counters = dict(measure.measure(kernel, operands, out, policy).counters)
    constant_bytes = sum(array.nbytes for array in kernel.pack([operands[1]]))
    assert float(counters["copies"]) * constant_bytes >= 2 << 20
    assert float(counters["overhead_s"]) > 0
    np.testing.assert_allclose(out, np.asarray(operands[0]) @ np.asarray(operands[1]), rtol=1e-4, atol=1e-5)


def test_kernels_are_compared_back_and_forth(
    monkeypatch: pytest.MonkeyPatch,
    backend: CpuBackend,
    artifact: Artifact,
    operands: Sequence[Operand],
    out: np.ndarray,
) -> None:
    family = backend.family(Workload.parse(artifact.workload), cpu.default_device())
    kernels = [load(artifact, family) for _ in range(3)]
    order: list[int] = []

    def timed(module: object, entry: str, calls: int, arguments: Sequence[TensorView]) -> float:
        order.extend(i for i, kernel in enumerate(kernels) if kernel.module is module)
        return 1.0

    monkeypatch.setattr(measure, "evaluate", timed)
    results = measure.compare(kernels, operands, out, MeasurePolicy(warmup=0), rounds=3)
    assert order[-9:] == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert [len(result.samples) for result in results] == [3, 3, 3]


def test_only_kernels_of_this_backend_are_measured(backend: CpuBackend, out: np.ndarray) -> None:
    class Other:
        def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
            return ()

        def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
            return

    with pytest.raises(InvalidArgument):
        backend.measure(Other(), (), out, QUICK)


def test_affinity_is_as_before_after_measuring(
    backend: CpuBackend, kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray
) -> None:
    before = os.sched_getaffinity(0)
    backend.measure(kernel, operands, out, QUICK)
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_while_pinned_every_thread_of_the_pool_has_its_own_core(backend: CpuBackend) -> None:
    workload = Workload.parse("matmul m=64 n=64 k=16 act=f32 weight=f32")
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    kernel = backend.load(backend.build(Candidate(workload, device, backend.default(workload, device))))
    seen: list[list[set[int]]] = []

    def run() -> None:  # a thread of its own, so that its pool is created here
        before = {int(task) for task in os.listdir("/proc/self/task")}
        threads.use(2)
        workers = sorted({int(task) for task in os.listdir("/proc/self/task")} - before)
        x, w = data.operands(workload, 0)
        kernel.run([np.asarray(x)], kernel.pack([w]), np.zeros((64, 64), np.float32))
        for pinned in (True, False):
            if pinned:
                with threads.pinned():
                    seen.append([os.sched_getaffinity(task) for task in (0, *workers)])
            else:
                seen.append([os.sched_getaffinity(task) for task in (0, *workers)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    inside, after = seen
    assert inside[:2] == [{core} for core in cpu.usable_cores()[:2]]
    assert all(cores == os.sched_getaffinity(0) for cores in after)


def test_arrays_are_copied_only_if_they_do_not_start_on_a_cache_line() -> None:
    array = empty((5, 3), np.dtype(np.float32))
    array[...] = 1
    assert aligned(array) is array
    shifted = array.reshape(-1)[1:]
    assert aligned(shifted) is not shifted
    assert copied(shifted).ctypes.data % 64 == 0
    np.testing.assert_array_equal(aligned(shifted), shifted)


def test_views_refuse_strided_arrays() -> None:
    with pytest.raises(InvalidArgument, match="contiguous"):
        TensorView.of(np.zeros((4, 4))[:, ::2])
