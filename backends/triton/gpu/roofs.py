"""A GPU's roofs: copies in its memory, peaks of its tensor units, and the clock that it has under that load."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Profile, Roof
from fettle.backends.triton.compiler import Compiled, compile_launch
from fettle.backends.triton.dense import Dense
from fettle.backends.triton.gpu.driver import Address, Driver
from fettle.backends.triton.gpu.kernel import Buffers, LoadedProgram
from fettle.backends.triton.plan import Argument, Launch, Plan, Work
from fettle.backends.triton.program import Kernel, Program
from fettle.backends.triton.targets import Target
from fettle.graph.errors import FettleError, Unsupported
from fettle.graph.workload import Workload

Compile = Callable[[Launch, Target], Compiled]
Clocks = dict[int, tuple[int, int]]
"""Of each multiprocessor its cycles and the GPU's nanoseconds."""

PRODUCTS = {
    "f16": "act=f16 weight=f16",
    "f8": "act=f8e4m3 weight=f8e4m3 out=f16",
    "i8": "act=i8 weight=i8 out=i32",
}
"""Tensor units, and what is multiplied to keep them busy. The peak of bf16 is that of f16."""

_N, _K, _ROWS = 2048, 8192, 128
"""Columns, K, and rows for each multiprocessor, so that all have equally many tiles: 0.2 … 4 ms a product."""
_COPY_BYTES = 1 << 30
_RANDOM_BYTES = 1 << 24
_BELOW_TWO = 0xBF
"""Bits to keep of random bytes: without the next to highest, f16 and f8e4m3 are below two, and never NaN."""

_WARM_SECONDS = 0.1
"""Of load, until clocks have settled."""
_SAMPLE_SECONDS = 0.01
_SAMPLES = 9
_MOST_CALLS = 64
"""Of one sample."""


def measure_roofs(driver: Driver, device_key: str, target: Target, compiler: Compile = compile_launch) -> Profile:
    """``copy:dram``, and of each tensor unit ``peak:UNIT`` and ``clock:UNIT``.

    A peak is operations per second of a large product by the default schedule, on random numbers (zeros take less
    power), median of samples with warm clocks; the clock is cycles per second of a multiprocessor meanwhile. Less than
    a second on the GPU, besides compiling. What cannot be measured is left out, and ``missing`` says why; the data
    sheet's peak then stands in, named ``peak:UNIT@sheet``.

    Args:
        compiler: where Triton is not installed, it raises ImportError.
    """
    roofs = [copy_roof(driver)]
    missing: dict[str, str] = {}
    reading: Program | None = None
    for unit in PRODUCTS:
        workload = workload_of(unit, target)
        try:
            # One after the other: Triton does not compile in several threads of a process reliably.
            reading = reading or _program(Plan((clock_launch(target),)), target, compiler)
            peak, before, after = _under_load(driver, workload, _product(workload, target, compiler), reading)
            roofs.append(Roof(f"peak:{unit}", peak))
        except (FettleError, ImportError, RuntimeError) as error:  # of the driver: RuntimeError
            missing |= dict.fromkeys((f"peak:{unit}", f"clock:{unit}"), str(error))
            if unit in target.peaks:
                roofs.append(Roof(f"peak:{unit}@sheet", target.peaks[unit]))
            continue
        if (clock := clock_between(before, after)) is None:
            missing[f"clock:{unit}"] = "no multiprocessor's clock was read before and after the load"
        else:
            roofs.append(Roof(f"clock:{unit}", clock))
    return Profile(device_key, tuple(roofs), tuple(missing.items()))


def copy_roof(driver: Driver) -> Roof:
    """Bytes read plus bytes written per second by a copy of a gigabyte: the most that kernels get of the memory."""
    with Buffers(driver) as buffers:
        target, source = buffers.reserve(_COPY_BYTES), buffers.reserve(_COPY_BYTES)

        def copy() -> None:
            driver.copy(target, source, _COPY_BYTES)

        seconds = min(driver.elapsed(copy) for _ in range(10))  # as a graph's node it runs slower
    return Roof("copy:dram", 2 * _COPY_BYTES / seconds, working_set=2 * _COPY_BYTES)


def workload_of(unit: str, target: Target) -> Workload:
    """The product that keeps a unit of :data:`PRODUCTS` busy."""
    return Workload.parse(f"matmul m={_ROWS * target.multiprocessors} n={_N} k={_K} {PRODUCTS[unit]}")


def clock_launch(target: Target) -> Launch:
    """Reads the clock of, most likely, every multiprocessor."""
    out = Argument("out_ptr", "*i64", "out")
    return Launch("clock:read", (out,), (), (target.multiprocessors, 1, 1), Work(bytes=0.0), warps=1, stages=1)


def clock_between(before: Clocks, after: Clocks) -> float | None:
    """Cycles per second, the median of multiprocessors; None if no clock and time went on between two readings."""
    passed = [np.subtract(after[number], before[number]) for number in before.keys() & after.keys()]
    found = [1e9 * cycles / nanoseconds for cycles, nanoseconds in passed if cycles > 0 and nanoseconds > 0]
    return float(statistics.median(found)) if found else None


def _product(workload: Workload, target: Target, compiler: Compile) -> Program:
    """A product's program. Raises Unsupported, BuildFailure."""
    family = Dense()
    if not (support := family.supports(workload, target)):
        raise Unsupported(support.reason)
    plan = family.plan(workload, family.default(workload, target), target)
    return _program(plan, target, compiler)


def _program(plan: Plan, target: Target, compiler: Compile) -> Program:
    kernels = tuple(Kernel(launch, compiler(launch, target)) for launch in plan.launches)
    return Program(target.name, kernels, plan.scratch)


def _under_load(driver: Driver, workload: Workload, program: Program, reading: Program) -> tuple[float, Clocks, Clocks]:
    """Operations per second of a product, and the clocks before and after the time that was measured."""
    product, reader = LoadedProgram(driver, program), LoadedProgram(driver, reading)
    left, right = workload.operands
    with Buffers(driver) as buffers:
        memory = {
            "input:0": _random(driver, buffers, left.nbytes),
            "packed:0": _random(driver, buffers, right.nbytes),
            "out": buffers.reserve(workload.result.nbytes),
        }
        driver.elapsed(lambda: product.enqueue(memory))  # the first is slower
        once = driver.elapsed(lambda: product.enqueue(memory))
        count = min(_MOST_CALLS, math.ceil(_SAMPLE_SECONDS / once))

        def calls() -> None:
            for _ in range(count):
                product.enqueue(memory)

        with driver.graph(calls) as replay:
            warm = 0.0
            while warm < _WARM_SECONDS:
                warm += replay()
            before = _read_clocks(driver, buffers, reader)
            seconds = statistics.median(replay() / count for _ in range(_SAMPLES))
            after = _read_clocks(driver, buffers, reader)
    return workload.flops / seconds, before, after


def _random(driver: Driver, buffers: Buffers, size: int) -> Address:
    """Memory full of numbers of any of the formats."""
    chunk = np.random.default_rng(0).integers(0, 256, min(size, _RANDOM_BYTES), np.uint8) & np.uint8(_BELOW_TWO)
    address = buffers.reserve(size)
    driver.upload(address, chunk)
    for start in range(chunk.nbytes, size, chunk.nbytes):
        driver.copy(Address(address.value + start), address, min(chunk.nbytes, size - start))
    return address


def _read_clocks(driver: Driver, buffers: Buffers, reader: LoadedProgram) -> Clocks:
    rows: NDArray[np.int64] = np.zeros((driver.facts.multiprocessors, 3), np.int64)
    out = buffers.copy(rows)
    reader.enqueue({"out": out})
    driver.download(out, rows)
    return {number: (cycles, nanoseconds) for number, cycles, nanoseconds in rows.tolist()}
