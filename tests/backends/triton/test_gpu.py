"""Loading, launching and timing, with a driver that keeps device memory in arrays and knows what one kernel does."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import pytest

from fettle.backends.api import Basis, Candidate, Device, DeviceText, MeasurePolicy, Schedule
from fettle.backends.triton import TritonBackend
from fettle.backends.triton.backend import target_of
from fettle.backends.triton.gpu.driver import Address, CudaDriver, Facts, LaunchConfig, open_gpu
from fettle.backends.triton.plan import Argument, Scratch
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload
from tests.backends.triton.programs import artifact, compiled_as, kernel, program

FACTS = Facts("A GPU", 90, 10, 1e9, l2=1 << 20, shared_block=100_000, memory=1 << 30)
SCALE = Workload.parse("elementwise shape=4x8 act=f32 expr=x0*0.125")


CALLS = (Argument("x", "*fp32", "input:0"), Argument("o", "*fp32", "scratch:sum"), Argument("n", "i32", value=7))
"""What a kernel is called with that sums into scratch."""
SUM = Scratch("sum", "fp32", 32)


class FakeDriver:
    """One kernel: multiply by 1/8. Each replayed launch takes a microsecond."""

    def __init__(self) -> None:
        self.facts = FACTS
        self.memory: dict[int, np.ndarray] = {}
        self.launches: list[tuple[Any, LaunchConfig, tuple[Address | int, ...]]] = []
        self.zeroed: list[int] = []
        self._next = 256

    def load(self, code: bytes, name: str, shared: int) -> Any:
        return code, name, shared

    def allocate(self, size: int) -> Address:
        address, self._next = self._next, self._next + 256
        self.memory[address] = np.full(size, 0xFF, np.uint8)
        return Address(address)

    def free(self, address: Address) -> None:
        del self.memory[address.value]

    def upload(self, address: Address, array: np.ndarray) -> None:
        self.memory[address.value][:] = np.ascontiguousarray(array).view(np.uint8).reshape(-1)

    def download(self, address: Address, array: np.ndarray) -> None:
        array[...] = self.memory[address.value].view(array.dtype).reshape(array.shape)

    def fill(self, address: Address, size: int, byte: int) -> None:
        self.memory[address.value][:size] = byte
        self.zeroed.append(address.value)

    def copy(self, target: Address, source: Address, size: int) -> None:
        self.memory[target.value][:size] = self.memory[source.value][:size]

    def launch(self, function: Any, config: LaunchConfig, arguments: Sequence[Address | int]) -> None:
        self.launches.append((function, config, tuple(arguments)))
        source, target = arguments[:2]
        assert isinstance(source, Address)
        assert isinstance(target, Address)
        self.memory[target.value].view(np.float32)[:] = self.memory[source.value].view(np.float32) / 8

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        before = len(self.launches)
        enqueue()
        return 1e-6 * (len(self.launches) - before)

    @contextlib.contextmanager
    def graph(self, enqueue: Callable[[], None]) -> Iterator[Callable[[], float]]:
        yield lambda: self.elapsed(enqueue)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def backend(driver: FakeDriver) -> TritonBackend:
    return TritonBackend(lambda index: driver)


def candidate(device: Device, backend: TritonBackend) -> Candidate:
    return Candidate(SCALE, device, backend.default(SCALE, device))


def loaded(backend: TritonBackend) -> Any:
    device = backend.device(DeviceText.parse("triton:0"))
    made = candidate(device, backend)
    plan = backend.family(SCALE, device).plan(SCALE, made.schedule, target_of(device))
    return backend.load(artifact(made, compiled_as(plan)))


def test_a_gpu_is_a_device_with_its_own_sizes(backend: TritonBackend) -> None:
    (device,) = backend.devices()
    assert str(device) == "triton:0"
    assert device.label == "A GPU"
    target = target_of(device)
    assert (target.name, target.multiprocessors, target.shared_block) == ("sm_90", 10, 100_000)


def test_running_uploads_launches_and_downloads(backend: TritonBackend, driver: FakeDriver) -> None:
    found = loaded(backend)
    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    out = np.full_like(x, np.nan)
    found.run([x], (), out)
    np.testing.assert_array_equal(out, x / 8)
    ((function, config, arguments),) = driver.launches
    assert function == (b"machine code", "elementwise:x0*0.125", 0)
    assert config == LaunchConfig((1, 1, 1), threads=64, shared=0), "64 elements, two warps"
    assert arguments[2:] == (Address(0), Address(0)), "Triton's scratch pointers are null"
    assert not driver.memory, "nothing stays allocated"


def test_scratch_is_zeroed_before_every_call(backend: TritonBackend, driver: FakeDriver) -> None:
    device = backend.device(DeviceText.parse("triton:0"))
    made = program(kernel(arguments=CALLS), scratch=[Scratch("sum", "fp32", 32, zeroed=True)])
    found = backend.load(artifact(candidate(device, backend), made))
    x = np.ones((4, 8), np.float32)
    found.run([x], (), np.empty_like(x))
    found.run([x], (), np.empty_like(x))
    assert len(driver.zeroed) == 2
    assert driver.launches[0][2][2] == 7


def test_scratch_that_calls_leave_zero_is_zeroed_once(backend: TritonBackend, driver: FakeDriver) -> None:
    device = backend.device(DeviceText.parse("triton:0"))
    made = program(kernel(arguments=CALLS), scratch=[Scratch("sum", "fp32", 32, kept=True)])
    found = backend.load(artifact(candidate(device, backend), made))
    x = np.ones((4, 8), np.float32)
    backend.measure(found, [x], np.empty_like(x), MeasurePolicy(mode="hot", min_sample=1e-4, samples=3))
    assert len(driver.launches) > 100
    assert len(driver.zeroed) == 1


def test_the_driver_is_told_which_launches_may_overlap(backend: TritonBackend, driver: FakeDriver) -> None:
    device = backend.device(DeviceText.parse("triton:0"))
    first = kernel(arguments=CALLS)
    second = attrs.evolve(first, launch=attrs.evolve(first.launch, dependent=True))
    found = backend.load(artifact(candidate(device, backend), program(first, second, scratch=[SUM])))
    x = np.ones((4, 8), np.float32)
    found.run([x], (), np.empty_like(x))
    assert [config.dependent for _, config, _ in driver.launches] == [False, True]


class FakeCuda:
    """As much of cuda-bindings' ``driver`` as a launch needs; keeps the configurations of launches."""

    CUstream_flags = types.SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
    CUlaunchConfig = types.SimpleNamespace
    CUlaunchAttributeID = types.SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)

    def __init__(self) -> None:
        self.configurations: list[tuple[Any, Any]] = []
        self.entered: list[int] = []

    def cuCtxSetCurrent(self, context: Any) -> tuple[int]:  # noqa: N802
        self.entered.append(threading.get_ident())
        return (0,)

    def CUlaunchAttribute(self) -> Any:  # noqa: N802 - CUDA's name
        return types.SimpleNamespace(id=0, value=types.SimpleNamespace())

    def cuLaunchKernelEx(self, config: Any, function: Any, parameters: Any, extra: int) -> tuple[int]:  # noqa: N802
        self.configurations.append((config, parameters))
        return (0,)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: (0, name)


def test_an_overlapping_launch_is_one_with_an_attribute() -> None:
    cuda = FakeCuda()
    driver = CudaDriver(cuda, 0)
    for dependent in (False, True):
        driver.launch("function", LaunchConfig((3, 2, 1), 128, 4096, dependent), [Address(1 << 40), 7])
    (apart, parameters), (overlapping, _) = cuda.configurations
    assert (apart.gridDimX, apart.gridDimY, apart.gridDimZ) == (3, 2, 1)
    assert (apart.blockDimX, apart.sharedMemBytes, apart.hStream) == (128, 4096, "cuStreamCreate")
    assert parameters == ((1 << 40, 7), (ctypes.c_void_p, ctypes.c_int32))
    assert not hasattr(apart, "attrs")
    (attribute,) = overlapping.attrs
    assert (attribute.id, attribute.value.programmaticStreamSerializationAllowed, overlapping.numAttrs) == (6, 1, 1)


def test_every_thread_enters_the_context_once_before_its_calls() -> None:
    cuda = FakeCuda()
    driver = CudaDriver(cuda, 0)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(threading.get_ident).result()
        for _ in range(2):
            driver.fill(Address(1 << 40), 64, 0)
            pool.submit(driver.fill, Address(1 << 40), 64, 0).result()
    assert cuda.entered == [threading.get_ident(), other]


@pytest.mark.parametrize(("mode", "buffers"), [("hot", 1), ("cold", 256)])
def test_cold_calls_go_round_more_memory_than_the_cache(backend: TritonBackend, mode: str, buffers: int) -> None:
    x = np.ones((4, 8), np.float32)
    out = np.empty_like(x)
    policy = MeasurePolicy(mode=mode, min_sample=1e-4, samples=3)
    measurement = backend.measure(loaded(backend), [x], out, policy)
    assert measurement.samples == pytest.approx((1e-6,) * 3)
    assert dict(measurement.counters)["buffers"] == buffers
    assert measurement.basis is Basis.MEASURED
    np.testing.assert_array_equal(out, x / 8)


def test_an_artifact_of_another_kind_is_refused(backend: TritonBackend) -> None:
    device = backend.device(DeviceText.parse("triton:0"))
    other = attrs.evolve(artifact(candidate(device, backend), program(kernel())), abi="fettle-triton-99")
    with pytest.raises(Unsupported, match="ABI"):
        backend.load(other)


def test_a_gpu_nothing_is_known_about_is_refused(driver: FakeDriver) -> None:
    driver.facts = attrs.evolve(FACTS, capability=70)
    with pytest.raises(Unsupported, match="compute capability"):
        TritonBackend(lambda index: driver).device(DeviceText.parse("triton:0"))


def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(Unsupported, match="no CUDA GPU"):
        open_gpu(63)


def test_the_interpreter_runs_no_machine_code(backend: TritonBackend) -> None:
    schedule = Schedule.of(block=64, rows=1, warps=1, stages=1)
    device = backend.device(DeviceText.parse("triton:interpreter"))
    built = backend.build(Candidate(SCALE, device, schedule))
    assert built.kind == "triton-plan"
    assert backend.executor(device) is None
