"""The learned proxy of a simulator against the simulator itself: error on schedules it was not shown, and time."""

from __future__ import annotations

import time

import attrs
import numpy as np

from fettle.backends.api import Backend, Device
from fettle.costmodel.proxy import Proxy, simulated
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload


@attrs.frozen
class ProxyRow:
    """Errors are relative; seconds are of one schedule.

    Attributes:
        shown, held_out: schedules the proxy learned from, and those it was asked about.
        simulated_s: ``Backend.simulate``, commands laid out and timed, without data.
        predicted_s: the proxy, features included.
        learning_s: simulating what is shown, and fitting.
    """

    shown: int
    held_out: int
    mean_error: float
    max_error: float
    simulated_s: float
    predicted_s: float
    learning_s: float

    @property
    def speedup(self) -> float:
        """How many times quicker a prediction is."""
        return self.simulated_s / self.predicted_s


def bench_proxy(backend: Backend, workload: Workload, device: Device, shown: int, seed: int = 0) -> ProxyRow:
    """Learn from ``shown`` random schedules and predict all others of the space.

    Raises:
        Unsupported: the device has no model, or does not run the workload.
        InvalidArgument: no schedule would be left to predict.
    """
    backend.simulate(workload, device, {})  # compiles what is compiled on first use
    begun = time.perf_counter()
    proxy = Proxy.learn(backend, workload, device, shown, seed)
    learning = time.perf_counter() - begun
    points = proxy.points
    known = set(points.sample(np.random.default_rng(seed), shown))
    others = [number for number in range(points.size) if number not in known]
    if not others:
        raise InvalidArgument(f"a space of {points.size} schedules leaves none to predict", hint="show fewer of them")
    begun = time.perf_counter()
    predicted = proxy.cycles(others)
    middle = time.perf_counter()
    truth = simulated(backend, workload, device, points, others)
    end = time.perf_counter()
    error = np.abs(predicted - truth) / truth
    return ProxyRow(
        shown=len(known),
        held_out=len(others),
        mean_error=float(error.mean()),
        max_error=float(error.max()),
        simulated_s=(end - middle) / len(others),
        predicted_s=(middle - begun) / len(others),
        learning_s=learning,
    )
