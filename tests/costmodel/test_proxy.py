"""A learned proxy follows the simulator on schedules it was not shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest

from fettle.backends.pim.backend import PimBackend
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


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_a_simulator_that_always_misses_the_estimate_alike_needs_no_model(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Cycles are ``factor`` times the estimate, by design: what is left to learn does not vary."""
    backend, device = resolve_device("pim:gddr6-aim,channels=8")
    workload = Workload.parse("matmul m=2 n=1024 k=2048 act=bf16 weight=bf16")
    simulate = PimBackend.simulate

    def estimated(self: PimBackend, workload: Any, device: Any, schedule: Mapping[str, Any]) -> Any:
        tiles = [value for value in schedule.values() if isinstance(value, int)]
        return attrs.evolve(simulate(self, workload, device, {}), cycles=factor * 2 ** (len(tiles) + sum(tiles) % 3))

    def features(self: PimBackend, candidate: Any, artifact: Any) -> Mapping[str, float]:
        cycles = estimated(self, workload, device, candidate.schedule.as_dict()).cycles
        return {"log2_cycles": float(np.log2(cycles / factor))}

    monkeypatch.setattr(PimBackend, "simulate", estimated)
    monkeypatch.setattr(PimBackend, "features", features)
    proxy = Proxy.learn(backend, workload, device, shown=8)
    numbers = list(range(0, proxy.points.size, 7))
    truth = simulated(backend, workload, device, proxy.points, numbers)
    np.testing.assert_allclose(proxy.cycles(numbers), truth)
