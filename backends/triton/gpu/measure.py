"""Timing on the device: CUDA graphs of as many calls as a sample needs, over more memory than the cache holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.backends.api import Measurement, MeasurePolicy, Outcome
from fettle.backends.host.operands import split_constants
from fettle.backends.triton.gpu.kernel import Buffers, GpuKernel
from fettle.graph.quantized import Operand

_MOST_CALLS = 2048
"""Of one graph."""
_MOST_SETS = 256


def measure(kernel: GpuKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy) -> Measurement:
    """Time a verified kernel.

    Hot, all calls use the same memory. Cold, they go round as many copies of operands and result as together exceed
    twice the last-level cache, so that no call finds its weights there.
    """
    driver = kernel.driver
    inputs, constants = split_constants(kernel.workload, operands)
    packed = kernel.pack(constants)
    with Buffers(driver) as buffers:
        size = sum(array.nbytes for array in (*inputs, *packed, out))
        sets = 1 if policy.mode == "hot" else min(_MOST_SETS, 1 + 2 * driver.facts.l2 // max(size, 1))
        memory = [kernel.place(buffers, inputs, packed, out) for _ in range(sets)]

        def enqueue(count: int) -> None:
            for i in range(count):
                kernel.enqueue(memory[i % sets])

        first = sets * max(1, policy.warmup)
        with driver.graph(lambda: enqueue(first)) as replay:
            replay()  # the first is slower
            once = replay() / first
        count = min(_MOST_CALLS, max(sets, int(policy.min_sample / max(once, 1e-7)) // sets * sets))
        with driver.graph(lambda: enqueue(count)) as replay:
            replay()
            samples = [replay() / count for _ in range(policy.samples)]
        driver.download(memory[0]["out"], out)
    return Measurement(Outcome.OK, samples, counters=(("calls", count), ("buffers", sets)))
