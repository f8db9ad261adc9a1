"""A learned proxy follows the simulator on schedules it was not shown."""

from __future__ import annotations

import numpy as np

from fettle.backends.registry import resolve_device
from fettle.costmodel.proxy import Proxy, simulated
from fettle.graph.workload import Workload


def test_cycles_of_held_out_mappings_are_within_one_percent_on_average() -> None:
    backend, device = resolve_device("pim:gddr6-aim,channels=8")
    workload = Workload.parse("matmul m=2 n=1024 k=2048 act=bf16 weight=bf16")
    proxy = Proxy.learn(backend, workload, device, shown=70)
    shown = set(proxy.points.sample(np.random.default_rng(0), 70))
    held_out = [i for i in range(0, proxy.points.size, 3) if i not in shown]
    truth = simulated(backend, workload, device, proxy.points, held_out)
    error = np.abs(proxy.cycles(held_out) - truth) / truth
    assert error.mean() <= 0.01
    assert np.ptp(truth) > truth.min()  # there is something to predict
