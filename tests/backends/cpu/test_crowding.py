from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import pytest

from fettle.backends.api import Candidate, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend, crowding, threads
from fettle.backends.cpu import device as cpu
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

THREADS = 2


@attrs.define
class Machine:
    """A clock that only calls of kernels move, and the thread counts they ran on."""

    now: float = 0.0
    counts: list[int] = attrs.Factory(list)

    def call(self, count: int, function: Callable[..., None], arguments: tuple[float]) -> None:
        self.counts.append(count)
        self.now += arguments[0]

    def kernel(self) -> crowding.Launcher:
        """Takes as many seconds as its argument says."""
        return crowding.Launcher(THREADS, lambda _: None, lambda: self.now)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(threads, "call", machine.call)
    monkeypatch.setattr(crowding, "_local", crowding._CallingThread())
    return machine


def test_calls_that_lose_nothing_keep_their_threads(machine: Machine) -> None:
    kernel = machine.kernel()
    for seconds in (0.5, 0.010, 0.020, 0.0209, 0.010):  # twice the fastest, and a millisecond
        kernel((seconds,))
    assert machine.counts == [THREADS] * 5


def test_after_a_loss_calls_are_made_alone_for_sixteen_times_as_long(machine: Machine) -> None:
    kernel = machine.kernel()
    kernel((0.010,))
    kernel((0.025,))  # lost 5 ms
    for _ in range(6):
        kernel((0.015,))
    assert machine.counts == [THREADS, THREADS, 1, 1, 1, 1, 1, 1]  # the last began after 75 of 80 ms
    kernel((0.010,))
    assert machine.counts[-1] == THREADS


def test_small_kernels_may_be_many_times_slower_within_a_millisecond(machine: Machine) -> None:
    kernel = machine.kernel()
    for seconds in (5e-6, 9e-4, 5e-6):
        kernel((seconds,))
    assert machine.counts == [THREADS] * 3


def test_a_process_that_was_stopped_is_not_alone_for_longer_than_a_second(machine: Machine) -> None:
    kernel = machine.kernel()
    for seconds in (0.001, 3600.0, 1.001, 0.001):
        kernel((seconds,))
    assert machine.counts == [THREADS, THREADS, 1, THREADS]


def test_a_loss_concerns_all_kernels_of_the_calling_thread_and_of_no_other(machine: Machine) -> None:
    one, other = machine.kernel(), machine.kernel()
    for kernel, seconds in ((one, 0.001), (one, 0.1), (other, 0.001)):
        kernel((seconds,))
    assert machine.counts == [THREADS, THREADS, 1]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other, (0.001,)).result()
    assert machine.counts[-1] == THREADS


def test_fixed_kernels_keep_their_threads(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_THREADS", "fixed")
    kernel = crowding.launcher(THREADS, lambda _: None)
    for seconds in (0.001, 1.0, 0.001):
        kernel((seconds,))
    assert machine.counts == [THREADS] * 3


@pytest.mark.parametrize("before", [None, "adaptive"])
def test_kernels_loaded_for_a_comparison_keep_their_threads(
    before: str | None, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FETTLE_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("FETTLE_THREADS", before)
    with crowding.fixed():
        kernel = crowding.launcher(THREADS, lambda _: None)
    for seconds in (0.001, 1.0, 0.001):
        kernel((seconds,))
    assert machine.counts == [THREADS] * 3
    assert os.environ.get("FETTLE_THREADS") == before


@pytest.mark.parametrize("value", ["", "2", "Fixed"])
def test_another_value_of_the_variable_is_rejected(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_THREADS", value)
    with pytest.raises(InvalidArgument, match="FETTLE_THREADS"):
        crowding.launcher(THREADS, lambda _: None)


@pytest.mark.skipif(len(cpu.usable_cores()) < THREADS, reason="needs two cores")
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("matmul m=32 n=64 k=48 act=f32 weight=f32", {"tile_m": 1, "tile_n": 1}),
        ("softmax rows=6 cols=96 act=f32", {"threads": THREADS}),
    ],
)
def test_a_kernel_of_two_threads_computes_the_same_alone(
    text: str, changes: dict[str, Any], backend: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload, device = Workload.parse(text), backend.device(DeviceText.parse("cpu,threads=2"))
    schedule = Schedule.of(**backend.default(workload, device).as_dict() | changes)
    kernel = backend.load(backend.build(Candidate(workload, device, schedule)))
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(operand.shape, np.float32) for operand in workload.operands]
    inputs = [a for a, operand in zip(arrays, workload.operands, strict=True) if not operand.constant]
    packed = kernel.pack([a for a, operand in zip(arrays, workload.operands, strict=True) if operand.constant])
    outs = [np.full(workload.result.shape, np.nan, np.float32) for _ in range(2)]
    call = threads.call
    counts: list[int] = []

    def counted(count: int, *rest: Any) -> None:
        counts.append(count)
        call(count, *rest)

    monkeypatch.setattr(threads, "call", counted)
    monkeypatch.setattr(crowding, "_local", crowding._CallingThread())
    for out, until in zip(outs, (0.0, float("inf")), strict=True):
        crowding._local.alone_until = until
        kernel.run(inputs, packed, out)
    assert counts == [THREADS, 1]
    np.testing.assert_array_equal(*outs)
    assert np.isfinite(outs[0]).all()
