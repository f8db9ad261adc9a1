"""The one timing routine of the CPU backend.

Hot: the runtime library's own loop (C++, about 20 ns a call) repeats the kernel on the same buffers; one call of a
kernel that fills a sample alone is made from Python, since that loop begins with an untimed call. Cold: a Python loop
walks over copies of the packed constants (of the inputs where nothing is packed) that together exceed the last-level
cache. What a call costs besides the kernel is measured and reported as ``overhead_s``.

Energy is what the machine tells of the samples' time (``energy.py``), divided by all calls made in it; ``waited`` is
the share of it that other processes kept the kernel's threads waiting (``waiting.py``).
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import WAITED, Basis, Measurement, MeasurePolicy, Outcome
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu import threads
from fettle.backends.cpu.energy import EnergyCounters, Meter
from fettle.backends.cpu.loader import CpuKernel
from fettle.backends.cpu.views import TensorView, copied, prepared
from fettle.backends.cpu.waiting import Waiting
from fettle.graph.quantized import Operand

_COLD_LIMIT = 1 << 30
_MAX_COPIES = 1 << 16
_MAX_CALLS = 1 << 20
_CPU = 1
_UNTIMED_CALLS = 1
"""Of the runtime library's evaluator, before those that it times."""

_NOTHING = "testing.nop"
"""A function of tvm_ffi that takes anything and does nothing."""


def measure(kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy) -> Measurement:
    """Time one kernel on ``operands`` (all of them, in the workload's order)."""
    return compare([kernel], operands, out, policy, policy.samples)[0]


def compare(
    kernels: Sequence[CpuKernel], operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy, rounds: int
) -> list[Measurement]:
    """Time kernels of one workload interleaved: ABCD, DCBA, … ``rounds`` samples each.

    Sample *i* of each kernel was taken within one round, so ratios of them are free of slow drift.
    """
    runs = [_Run(kernel, operands, out, policy) for kernel in kernels]
    samples: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run.calibrate(policy)
    for turn in range(rounds):
        order = range(len(runs)) if turn % 2 == 0 else reversed(range(len(runs)))
        for index in order:
            samples[index].append(runs[index].metered_sample())
    return [
        Measurement(Outcome.OK, taken, Basis.MEASURED, counters=tuple(run.counters().items()), energy=run.energy())
        for run, taken in zip(runs, samples, strict=True)
    ]


@functools.cache
def energy_counters() -> EnergyCounters | None:
    """Those of this machine, looked for once a process."""
    return EnergyCounters.find()


class _Run:
    """A kernel with its buffers, ready to be timed from this thread."""

    def __init__(self, kernel: CpuKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy) -> None:
        specs = kernel.workload.operands
        inputs = [np.asarray(o) for o, spec in zip(operands, specs, strict=True) if not spec.constant]
        packed = list(kernel.pack([o for o, spec in zip(operands, specs, strict=True) if spec.constant]))
        self._kernel = kernel
        self._calls = 1
        self._is_cold = policy.mode == "cold"
        if self._is_cold:
            span = min(2 * cpu.last_level_bytes(cpu.default_device()), _COLD_LIMIT)
            self._sets = _cold_sets(inputs, packed, out, span)
        else:
            self._sets = [prepared([*inputs, *packed, out])]
        self._next = itertools.cycle(self._sets)
        self._meter = Meter(energy_counters())
        self._metered_calls = 0
        self._waiting = Waiting()

    def calibrate(self, policy: MeasurePolicy) -> None:
        """Choose the calls a sample needs to last ``policy.min_sample`` seconds; ``policy.warmup`` calls at least.

        Begins with what the kernel needed before: finals ask for one sample at a time.
        """
        key = attrs.evolve(policy, samples=1)
        self._calls = self._kernel.calls.get(key, 1)
        made = 0
        while True:
            seconds = self.sample() * self._calls
            made += self._calls
            if seconds >= policy.min_sample or self._calls >= _MAX_CALLS:
                if made >= policy.warmup:
                    self._kernel.calls[key] = self._calls
                    return
                continue
            growth = policy.min_sample / max(seconds, 1e-9)
            self._calls = min(_MAX_CALLS, max(self._calls + 1, math.ceil(self._calls * min(growth * 1.05, 100.0))))

    def sample(self) -> float:
        """Seconds per call, the mean of one sample."""
        self._kernel.prepare_threads()
        with threads.pinned():
            return self._from_python() if self._is_called_from_python else self._in_runtime()

    def metered_sample(self) -> float:
        """As :meth:`sample`, with the energy it takes and the time it waits. Reading the counters is not timed."""
        team = self._kernel.prepare_threads()
        self._meter.start()
        self._waiting.start(team)
        seconds = self.sample()
        self._waiting.stop()
        self._meter.stop()
        self._metered_calls += self._calls + (0 if self._is_called_from_python else _UNTIMED_CALLS)
        return seconds

    def energy(self) -> float | None:
        """Joules per call over the metered samples; None where the machine does not tell."""
        joules = self._meter.joules
        return None if joules is None else joules / self._metered_calls

    @property
    def _is_called_from_python(self) -> bool:
        return self._is_cold or self._calls == 1

    def _in_runtime(self) -> float:
        return evaluate(self._kernel.module, self._kernel.artifact.entry, self._calls, self._sets[0])

    def _from_python(self) -> float:
        function = self._kernel.function
        batch = list(itertools.islice(self._next, self._calls))
        start = time.perf_counter()
        for arguments in batch:
            function(*arguments)
        return (time.perf_counter() - start) / self._calls

    def counters(self) -> dict[str, int | float]:
        """How the samples were taken."""
        overhead = (_python_overhead if self._is_called_from_python else _native_overhead)(self._sets[0])
        waited = {} if self._waiting.share is None else {WAITED: self._waiting.share}
        return {"calls_per_sample": self._calls, "copies": len(self._sets), "overhead_s": overhead, **waited}


def evaluate(module: object, entry: str, calls: int, arguments: Sequence[TensorView | int]) -> float:
    """Seconds per call by the runtime library's time evaluator (which makes one untimed call first)."""
    evaluator: Callable[..., Callable[..., bytes]] = threads.runtime().get_global_func("runtime.RPCTimeEvaluator")
    # number, repeat, min_repeat_ms, zero-time retries, cooldown ms, repeats to cooldown, cache flush, preprocessing
    timed = evaluator(module, entry, _CPU, 0, calls, 1, 0, 1, 0, 1, 0, "")
    return float(np.frombuffer(bytes(timed(*arguments)), np.float64)[0])


def _native_overhead(arguments: Sequence[TensorView]) -> float:
    """Seconds the evaluator's loop takes per call of a function that does nothing."""
    return evaluate(None, _NOTHING, 1000, arguments)


def _python_overhead(arguments: Sequence[TensorView]) -> float:
    """Seconds a call from Python takes, of a function that does nothing."""
    nothing = threads.runtime().get_global_func(_NOTHING)
    start = time.perf_counter()
    for _ in range(1000):
        nothing(*arguments)
    return (time.perf_counter() - start) / 1000


def _cold_sets(
    inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray, span: int
) -> list[list[TensorView]]:
    """Argument sets over copies of the constants (of the inputs if there are none) that cover ``span`` bytes."""
    rotated = packed or inputs
    copies = min(max(1, math.ceil(span / max(1, sum(a.nbytes for a in rotated)))), _MAX_COPIES)
    if packed:
        return [prepared([*inputs, *map(copied, packed), out]) for _ in range(copies)]
    return [prepared([*map(copied, inputs), out]) for _ in range(copies)]
