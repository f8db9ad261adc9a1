"""The TVM runtime library in this process: its thread pools, and where their threads run.

TVM keeps one pool per calling thread. It is created when that thread first launches a parallel kernel, with
``TVM_NUM_THREADS`` workers of which the caller is one; before a kernel of another thread count runs, the pool is
switched (1 µs). TVM itself never binds threads here: by default its first parallel call rewrites the caller's
CPU affinity. :func:`pinned` binds them while a kernel is being timed, and only then.

A fork copies only the thread that calls it. The copy of its pool would wait for workers that are not there, so in
the child that thread leaves its parallel kernels to a thread of their own, with a new pool (:func:`call`).
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fettle.backends.cpu import device as cpu
from fettle.graph.errors import Unsupported

_MODE = 1
"""``kBig`` of TVM's ThreadGroup::AffinityMode; without binding it only sets how many workers run."""

_SPIN_COUNT = "300000"
"""TVM's default: how often an idle worker yields before it sleeps, about a tenth of a second."""

_local = threading.local()


def environment(count: int) -> dict[str, str]:
    """Variables of a worker process whose kernels use up to ``count`` threads.

    What the user has set for kernels in use must not change what is measured.
    """
    return {
        "TVM_BIND_THREADS": "0",
        "TVM_NUM_THREADS": str(count),
        "TVM_THREAD_POOL_SPIN_COUNT": _SPIN_COUNT,
        "OMP_NUM_THREADS": str(count),
    }


@cache
def runtime() -> Any:
    """Load the TVM runtime library (3 MB, plain C++) and return the ``tvm_ffi`` module; does not import TVM.

    Raises:
        Unsupported: apache-tvm is not installed.
    """
    os.environ["TVM_BIND_THREADS"] = "0"
    os.environ.setdefault("TVM_NUM_THREADS", str(len(cpu.usable_cores())))
    spec = importlib.util.find_spec("tvm")
    if spec is None or not spec.submodule_search_locations:
        raise Unsupported("the CPU backend needs the package apache-tvm")
    import tvm_ffi

    library = Path(spec.submodule_search_locations[0]) / "lib" / "libtvm_runtime.so"
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return tvm_ffi


def use(count: int) -> None:
    """Let parallel kernels called from this thread run on ``count`` threads, the caller included."""
    if getattr(_local, "count", 0) == count:
        return
    configure = runtime().get_global_func("runtime.config_threadpool")
    if hasattr(_local, "workers"):
        configure(_MODE, count)
    else:
        before = _tasks()
        configure(_MODE, count)  # creates this thread's pool
        _local.workers = tuple(sorted(_tasks() - before))
    _local.count = count


def team() -> tuple[int, ...]:
    """Ids of the threads on which parallel kernels called from this thread run, which is the first."""
    workers: tuple[int, ...] = getattr(_local, "workers", ())
    return (threading.get_native_id(), *workers)[: getattr(_local, "count", 1)]


def call(count: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Call a parallel kernel on ``count`` threads, this one included unless its pool was lost in a fork."""
    if not getattr(_local, "forked", False):
        use(count)
        function(*arguments)
        return
    if _local.deputy is None:
        _local.deputy = ThreadPoolExecutor(1, thread_name_prefix="fettle")
    _local.deputy.submit(call, count, function, arguments).result()


def _after_fork() -> None:
    if hasattr(_local, "count"):  # there was a pool
        _local.forked, _local.deputy = True, None


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def pinned() -> Iterator[None]:
    """Bind the calling thread to the first usable core and its pool's workers to the next ones, for the block."""
    workers: tuple[int, ...] = getattr(_local, "workers", ())
    allowed = os.sched_getaffinity(0)
    cores = cpu.usable_cores()
    placed = dict(zip((0, *workers), cores, strict=False))
    try:
        for task, core in placed.items():
            os.sched_setaffinity(task, {core})
        yield
    finally:
        for task in placed:
            os.sched_setaffinity(task, allowed)


def block_torch() -> None:
    """Keep ``tvm_ffi`` from importing torch (seconds, hundreds of MB). Only for processes that are ours alone."""
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]


def _tasks() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}
