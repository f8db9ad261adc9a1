"""Loads object-file artifacts into any process: no TVM import, no compiler, no linker.

apache-tvm-ffi-orcjit links the object in memory; ``libtvm_runtime.so`` (3 MB, plain C++) gives it the thread
pool that ``T.parallel`` runs on (see ``threads.py``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fettle.backends.api import Artifact, MeasurePolicy
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import threads
from fettle.backends.cpu.amx import permit
from fettle.backends.cpu.crowding import launcher
from fettle.backends.cpu.family import Family
from fettle.backends.cpu.views import aligned, immediate, prepared
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

KIND = "elf-object"
ABI = "tvm-ffi-1"
ENTRY = "fettle_kernel"

_NO_COMPILER = os.devnull
"""orcjit asks a C++ compiler for its libstdc++; kernels need none, and there may be no compiler to ask."""

_PARALLEL = b"TVMBackendParallelLaunch"
"""The symbol a kernel with parallel loops refers to."""

_load_lock = threading.Lock()


class CpuKernel:
    """A loaded kernel. Calls from several threads are safe; each calling thread gets its own thread pool."""

    def __init__(self, artifact: Artifact, family: Family, module: Any) -> None:
        self.artifact = artifact
        self.workload = Workload.parse(artifact.workload)
        self.family = family
        self.module = module
        self.threads = int(dict(artifact.facts).get("threads", 1))
        self._is_parallel = _PARALLEL in artifact.payload
        self.function: Callable[..., None] = module[artifact.entry]
        self._launch = launcher(self.threads, self.function)
        self.calls: dict[MeasurePolicy, int] = {}
        """Calls that filled a sample when last timed."""
        self._inputs = tuple((t.shape, t.format.dtype) for t in self.workload.operands if not t.constant)
        self._result = (self.workload.result.shape, self.workload.result.format.dtype)

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Constants in the layout :attr:`Artifact.weight_layout` names, starting on cache lines."""
        return tuple(map(aligned, self.family.pack(self.workload, self.artifact.schedule, constants)))

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Compute into ``out``. Nothing is copied.

        Raises:
            InvalidArgument: an array's number, shape, type or contiguity is not the workload's.
        """
        self._check(inputs, out)
        views = immediate([*inputs, *packed, out])
        try:
            if self._is_parallel:
                self._launch(tuple(views))
            else:
                self.function(*views)
        except (TypeError, ValueError) as error:  # the kernel's own check of the packed constants
            raise InvalidArgument(f"packed constants do not fit the kernel: {error}") from error

    def prepare(
        self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray
    ) -> Callable[[], object]:
        """The same call as a function without arguments; half a microsecond besides the kernel, one on several threads.

        Raises:
            InvalidArgument: as :meth:`run`.
        """
        self._check(inputs, out)
        views = tuple(prepared([*inputs, *packed, out]))
        if self._is_parallel:
            return partial(self._launch, views)
        return partial(self.function, *views)

    def _check(self, inputs: Sequence[np.ndarray], out: np.ndarray) -> None:
        if len(inputs) != len(self._inputs):
            raise InvalidArgument(f"{self.workload} takes {len(self._inputs)} inputs, not {len(inputs)}")
        for array, (shape, dtype) in zip(inputs, self._inputs, strict=True):
            _check(array, shape, dtype)
        _check(out, *self._result)
        if not out.flags.writeable:
            raise InvalidArgument("the result array is read-only")

    def prepare_threads(self) -> tuple[int, ...]:
        """Switch the calling thread's pool to this kernel's thread count; returns the ids of the threads it runs on."""
        if not self._is_parallel:
            return (threading.get_native_id(),)
        threads.use(self.threads)
        return threads.team()


def load(artifact: Artifact, family: Family) -> CpuKernel:
    """Make an artifact callable in this process.

    Raises:
        Unsupported: its kind, ABI or instruction set is not this machine's, it does not link, or the system does
            not permit the tile registers it needs.
    """
    if artifact.kind != KIND:
        raise Unsupported(f"artifact of kind {artifact.kind!r}; the CPU backend loads {KIND!r}")
    if artifact.abi != ABI:
        raise Unsupported(f"artifact with ABI {artifact.abi!r}; this version loads {ABI!r}", hint="tune again")
    missing = cpu.missing_features(artifact.isa)
    if missing:
        raise Unsupported(
            f"the kernel needs CPU features this machine lacks: {' '.join(missing)}",
            hint="look up kernels for this machine's device, or tune with isa= restricted",
        )
    if not cpu.TILES.isdisjoint(artifact.isa):
        permit()
    try:
        return CpuKernel(artifact, family, link(artifact.payload))
    except (RuntimeError, AttributeError, KeyError, ValueError) as error:
        raise Unsupported(f"the artifact cannot be loaded: {error}") from error


def link(payload: bytes) -> Any:
    """A ``tvm_ffi.Module`` with the functions of an object file, linked in memory."""
    threads.runtime()
    import tvm_ffi_orcjit

    with _load_lock:
        return tvm_ffi_orcjit.default_session().load_module(payload, cxx=_NO_COMPILER)


def _check(array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise InvalidArgument(f"expected an array {dtype} {shape}, got {array.dtype} {array.shape}")
    if not array.flags.c_contiguous:
        raise InvalidArgument(f"the array {dtype} {shape} is not C-contiguous")
