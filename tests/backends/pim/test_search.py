"""Mappings are searched by the tuner that searches kernels, in this process."""

from __future__ import annotations

from fettle.backends.api import Basis
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload
from fettle.search.explore import explore

WORKLOAD = Workload.parse("matmul m=4 n=1024 k=2048 act=bf16 weight=u4:128")


def test_a_tenth_of_the_evaluations_comes_within_two_percent_of_exhaustive_search() -> None:
    backend, device = resolve_device("pim:gddr6-aim,channels=8")
    points = enumerate_space(backend.space(WORKLOAD, device))
    every = [backend.simulate(WORKLOAD, device, points[i].as_dict()).cycles for i in range(points.size)]
    found = explore(backend, WORKLOAD, device, points.size // 10, seed=3)
    assert all(e.measurement.ok and e.measurement.basis is Basis.SIMULATED for e in found)
    best = min(every[e.point] for e in found)
    assert best <= 1.02 * min(every)


def test_the_best_mapping_beats_the_worse_textbook_by_thirty_percent() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    gemv = Workload.parse("matmul m=1 n=4096 k=4096 act=bf16 weight=bf16")
    textbooks = [
        backend.simulate(gemv, device, {"dataflow": flow}).cycles for flow in ("input_stationary", "output_stationary")
    ]
    tuned = backend.simulate(gemv, device, {"dataflow": "output_stationary", "split_k": 4, "keep_buffer": True})
    assert max(textbooks) >= 1.3 * tuned.cycles
    assert tuned.cycles < min(textbooks)
