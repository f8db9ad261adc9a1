"""Few trials go to what analysis expects most of."""

from __future__ import annotations

import math

import numpy as np

from fettle.backends.api import Bound, Candidate
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.features import Featurizer, UnitFeatures
from fettle.search.batches import BATCH
from fettle.search.lite import lite
from fettle.search.tuner import WorkloadTuner
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload


class Analysed(SyntheticBackend):
    """A synthetic device whose analysis is right within 20 %, up to a factor."""

    def estimate(self, candidate: Candidate) -> float | None:
        wrong = 1.0 + 0.2 * math.sin(float(int(candidate.schedule.key[:8], 16)))
        return 7.0 * wrong * self.seconds(candidate.workload, candidate.schedule)


def test_the_lite_space_is_a_small_and_fast_part_of_the_whole() -> None:
    backend = Analysed()
    points = enumerate_space(backend.space(workload(), DEVICE))
    kept = lite(points, Featurizer(backend, workload(), DEVICE, points))
    assert kept is not None
    assert len(set(kept)) == len(kept) <= 256 < points.size
    drawn = points.sample(np.random.default_rng(1), 500)
    fast, whole = (np.median([backend.seconds(workload(), points[i]) for i in part]) for part in (kept, drawn))
    assert fast < 0.5 * whole


def test_without_an_estimate_there_is_no_lite_space() -> None:
    backend = SyntheticBackend()
    points = enumerate_space(backend.space(workload(), DEVICE))
    assert lite(points, Featurizer(backend, workload(), DEVICE, points)) is None


def test_a_tuner_with_few_trials_stays_in_the_lite_space_but_for_the_default() -> None:
    backend = Analysed()
    executor = SyntheticExecutor(backend)
    tuner = WorkloadTuner(backend, workload(), DEVICE, Bound(1e-3, "peak:f32"), few_trials=True)
    kept = set(lite(tuner.points, Featurizer(backend, workload(), DEVICE, tuner.points)) or ())
    with executor.open(workload(), tuner.policy, 0) as session:
        while tuner.trials < 3 * BATCH:
            tuner.step(session, BATCH)
    tried = {tuner.points.index(r.candidate.schedule) for r in tuner.records}
    assert tried - kept <= {tuner.points.index(tuner.default)}


def test_features_of_a_sample_span_the_unit_interval() -> None:
    backend = Analysed()
    points = enumerate_space(backend.space(workload(), DEVICE))
    features = UnitFeatures(Featurizer(backend, workload(), DEVICE, points), points)
    matrix = features(points.sample(np.random.default_rng(0), 512))
    np.testing.assert_allclose(matrix.min(axis=0), 0.0)
    np.testing.assert_allclose(matrix.max(axis=0), 1.0)
