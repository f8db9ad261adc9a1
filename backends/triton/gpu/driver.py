"""What this backend asks of a GPU, and the CUDA driver as an answer. Tests put a fake in its place."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import attrs
import numpy as np

from fettle.graph.errors import Unsupported

_INSTALL = "pip install 'fettle-tuner[triton]' brings cuda-bindings; the NVIDIA driver must be there too"

_UNASKED_SHARED = 48 * 1024
"""Bytes of shared memory a block gets without an attribute that asks for more (CUDA programming guide)."""


@attrs.frozen
class Facts:
    """What a GPU says of itself. ``capability`` is 90 for compute capability 9.0; sizes in bytes, clock in hertz."""

    name: str
    capability: int
    multiprocessors: int
    clock: float
    l2: int
    shared_block: int
    memory: int


@attrs.frozen
class Address:
    """A place in device memory, as a kernel's argument."""

    value: int


@attrs.frozen
class LaunchConfig:
    """How often and with what a function runs.

    Attributes:
        grid: blocks along x, y, z.
        threads: of a block.
        shared: bytes of dynamic shared memory a block.
        dependent: it may begin while the launch before it ends.
    """

    grid: tuple[int, int, int]
    threads: int
    shared: int
    dependent: bool = False


class Driver(Protocol):
    """One GPU. Calls are in order, as on one stream."""

    @property
    def facts(self) -> Facts: ...

    def load(self, code: bytes, name: str, shared: int) -> Any:
        """The function ``name`` of a cubin, allowed ``shared`` bytes of dynamic shared memory."""

    def allocate(self, size: int) -> Address:
        """Fresh device memory, at a multiple of 256 bytes."""

    def free(self, address: Address) -> None: ...

    def upload(self, address: Address, array: np.ndarray) -> None: ...

    def download(self, address: Address, array: np.ndarray) -> None:
        """Fill a C-contiguous array; waits for all kernels before it."""

    def fill(self, address: Address, size: int, byte: int) -> None: ...

    def copy(self, target: Address, source: Address, size: int) -> None: ...

    def launch(self, function: Any, config: LaunchConfig, arguments: Sequence[Address | int]) -> None:
        """Enqueue. Numbers are 32-bit integers."""

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        """Seconds on the device of what ``enqueue`` enqueues, as it is enqueued."""

    def graph(self, enqueue: Callable[[], None]) -> AbstractContextManager[Callable[[], float]]:
        """What ``enqueue`` enqueues, captured as a graph. Calling it replays it once: seconds on the device."""


def open_gpu(index: int) -> Driver:
    """The CUDA GPU of that number.

    Raises:
        Unsupported: no cuda-bindings, no driver, or no such GPU.
    """
    try:
        from cuda.bindings import driver as cuda
    except ImportError:
        raise Unsupported("no CUDA GPU can be used: cuda-bindings is not installed", hint=_INSTALL) from None
    try:
        return CudaDriver(cuda, index)
    except RuntimeError as error:
        raise Unsupported(f"no CUDA GPU {index} here: {error}", hint=_INSTALL) from None


class CudaDriver:
    """The CUDA driver API through cuda-bindings. Errors are RuntimeError with CUDA's own name for them.

    Any thread may call it, one at a time: CUDA has a current context for each, which the thread's first call sets.
    """

    def __init__(self, cuda: Any, index: int) -> None:
        self._cuda = cuda
        _checked(cuda.cuInit, 0)
        self._device = _checked(cuda.cuDeviceGet, index)
        self._context = _checked(cuda.cuDevicePrimaryCtxRetain, self._device)
        self._thread = threading.local()
        self._stream = self._call(cuda.cuStreamCreate, cuda.CUstream_flags.CU_STREAM_NON_BLOCKING)

    @property
    def facts(self) -> Facts:
        kinds = self._cuda.CUdevice_attribute

        def value(name: str) -> int:
            return int(self._call(self._cuda.cuDeviceGetAttribute, getattr(kinds, name), self._device))

        name = self._call(self._cuda.cuDeviceGetName, 128, self._device)
        major = value("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR")
        return Facts(
            name=bytes(name).split(b"\0")[0].decode(),
            capability=10 * major + value("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR"),
            multiprocessors=value("CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT"),
            clock=1e3 * value("CU_DEVICE_ATTRIBUTE_CLOCK_RATE"),
            l2=value("CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE"),
            shared_block=value("CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
            memory=int(self._call(self._cuda.cuDeviceTotalMem, self._device)),
        )

    def load(self, code: bytes, name: str, shared: int) -> Any:
        image = np.frombuffer(code, np.uint8)
        module = self._call(self._cuda.cuModuleLoadData, image.ctypes.data)
        function = self._call(self._cuda.cuModuleGetFunction, module, name.encode())
        if shared > _UNASKED_SHARED:
            most = self._cuda.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self._call(self._cuda.cuFuncSetAttribute, function, most, shared)
        return function

    def allocate(self, size: int) -> Address:
        return Address(int(self._call(self._cuda.cuMemAlloc, max(size, 1))))

    def free(self, address: Address) -> None:
        self._call(self._cuda.cuMemFree, address.value)

    def upload(self, address: Address, array: np.ndarray) -> None:
        contiguous = np.ascontiguousarray(array)
        self._call(self._cuda.cuMemcpyHtoDAsync, address.value, contiguous.ctypes.data, array.nbytes, self._stream)
        self._wait()  # the array may go away

    def download(self, address: Address, array: np.ndarray) -> None:
        self._call(self._cuda.cuMemcpyDtoHAsync, array.ctypes.data, address.value, array.nbytes, self._stream)
        self._wait()

    def fill(self, address: Address, size: int, byte: int) -> None:
        self._call(self._cuda.cuMemsetD8Async, address.value, byte, size, self._stream)

    def copy(self, target: Address, source: Address, size: int) -> None:
        self._call(self._cuda.cuMemcpyDtoDAsync, target.value, source.value, size, self._stream)

    def launch(self, function: Any, config: LaunchConfig, arguments: Sequence[Address | int]) -> None:
        cuda = self._cuda
        values = tuple(a.value if isinstance(a, Address) else a for a in arguments)
        kinds = tuple(ctypes.c_void_p if isinstance(a, Address) else ctypes.c_int32 for a in arguments)
        launch = cuda.CUlaunchConfig()
        launch.gridDimX, launch.gridDimY, launch.gridDimZ = config.grid
        launch.blockDimX, launch.blockDimY, launch.blockDimZ = config.threads, 1, 1
        launch.sharedMemBytes, launch.hStream = config.shared, self._stream
        if config.dependent:
            overlap = cuda.CUlaunchAttribute()
            overlap.id = cuda.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            overlap.value.programmaticStreamSerializationAllowed = 1
            launch.attrs, launch.numAttrs = [overlap], 1
        self._call(cuda.cuLaunchKernelEx, launch, function, (values, kinds), 0)

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        with self._event() as start, self._event() as end:
            self._call(self._cuda.cuEventRecord, start, self._stream)
            enqueue()
            self._call(self._cuda.cuEventRecord, end, self._stream)
            self._wait()
            return 1e-3 * float(self._call(self._cuda.cuEventElapsedTime, start, end))

    @contextlib.contextmanager
    def graph(self, enqueue: Callable[[], None]) -> Iterator[Callable[[], float]]:
        cuda = self._cuda
        self._call(cuda.cuStreamBeginCapture, self._stream, cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
        try:
            enqueue()
        finally:
            graph = self._call(cuda.cuStreamEndCapture, self._stream)
        try:
            executable = self._call(cuda.cuGraphInstantiate, graph, 0)
            try:
                yield lambda: self.elapsed(lambda: self._call(cuda.cuGraphLaunch, executable, self._stream))
            finally:
                self._call(cuda.cuGraphExecDestroy, executable)
        finally:
            self._call(cuda.cuGraphDestroy, graph)

    @contextlib.contextmanager
    def _event(self) -> Iterator[Any]:
        event = self._call(self._cuda.cuEventCreate, 0)
        try:
            yield event
        finally:
            self._call(self._cuda.cuEventDestroy, event)

    def _wait(self) -> None:
        self._call(self._cuda.cuStreamSynchronize, self._stream)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """As :func:`_checked`, in the GPU's context."""
        if not hasattr(self._thread, "has_context"):
            _checked(self._cuda.cuCtxSetCurrent, self._context)
            self._thread.has_context = True
        return _checked(function, *arguments)


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the driver; its results without the error code.

    Raises:
        RuntimeError: the driver refuses.
    """
    error, *results = function(*arguments)
    if int(error):
        raise RuntimeError(f"{function.__name__}: {error.name}")
    return results[0] if len(results) == 1 else tuple(results)
