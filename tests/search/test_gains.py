"""How far a model's promises are believed."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from fettle.backends.api import Bound, Measurement, Outcome
from fettle.search.batches import BATCH
from fettle.search.gains import beliefs, expected_gain, track_record
from fettle.search.tuner import WorkloadTuner
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload


def tuner(n: int = 256, small: bool = False) -> WorkloadTuner:
    """On a synthetic workload, after a first batch."""
    backend = SyntheticBackend(small=small)
    made = WorkloadTuner(backend, workload(n), DEVICE, Bound(1e-3, "peak:f32"))
    made.step(SyntheticExecutor(backend).open(made.workload, made.policy, 0), BATCH)
    return made


def told(made: WorkloadTuner, *trials: tuple[float, float]) -> WorkloadTuner:
    """Its trials as if predicted with a deviation of 0.1, and how they turned out: (predicted, actual) log times."""
    template = attrs.evolve(made.records[0], predicted=None, predicted_std=None)

    def measured(log_time: float) -> Measurement:
        return attrs.evolve(template.measurement, samples=(made.bound.seconds * np.exp(log_time),), objective=None)

    made.records[:] = [
        attrs.evolve(template, measurement=measured(actual), predicted=predicted, predicted_std=0.1)
        for predicted, actual in trials
    ]
    return made


def test_a_track_record_adds_up_what_was_promised_and_what_came() -> None:
    made = told(tuner(), (0.0, 1.0), (0.5, 0.8), (0.9, 1.2))
    promised, kept = track_record(made)
    draws = np.random.default_rng(0).normal(0.0, 0.1, 400_000)
    falls = (np.maximum(best - mean - draws, 0.0).mean() for mean, best in ((0.5, 1.0), (0.9, 0.8)))
    assert promised == pytest.approx(sum(falls), rel=0.01)
    assert kept == pytest.approx(0.2)


def test_a_failed_trial_keeps_no_promise() -> None:
    made = told(tuner(), (0.0, 1.0), (0.5, 0.5))
    made.records[1] = attrs.evolve(made.records[1], measurement=Measurement.failure(Outcome.TIMEOUT, ""))
    promised, kept = track_record(made)
    assert promised == pytest.approx(0.5, abs=0.01)
    assert kept == 0.0


def test_without_predictions_belief_is_whole() -> None:
    assert beliefs([tuner()]) == [1.0]


def test_broken_promises_count_against_all_workloads_with_the_same_parameters() -> None:
    broken, same, other = told(tuner(), (0.0, 1.0), (0.5, 1.0), (0.5, 1.0)), tuner(512), tuner()
    other.space = attrs.evolve(
        other.space, parameters=tuple(attrs.evolve(p, name=f"other_{p.name}") for p in other.space.parameters)
    )
    assert beliefs([broken, same, other]) == [pytest.approx(0.02 / 1.02, rel=0.01)] * 2 + [1.0]
    assert expected_gain(same, 0.02) < 0.1 * expected_gain(same)


def test_kept_promises_are_believed_and_no_more_than_that() -> None:
    assert beliefs([told(tuner(), (0.0, 1.0), (0.5, 0.5))]) == [pytest.approx(1.0, abs=0.01)]
    assert beliefs([told(tuner(), (0.0, 1.0), (0.9, 0.1))]) == [1.0]
