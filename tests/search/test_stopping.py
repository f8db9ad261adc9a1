"""A search ends when what it may still gain drowns in noise."""

from __future__ import annotations

import attrs
import pytest

from fettle.backends.api import Basis, Bound, Candidate, Measurement, MeasurePolicy, Outcome, Record
from fettle.search.samplers import Problem, Sampler
from fettle.search.samplers.uniform import RandomSampler
from fettle.search.stopping import LEAST_TRIALS, nothing_to_gain, relative_noise
from fettle.search.tuner import WorkloadTuner
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, SyntheticExecutor, workload


def record(*samples: float, basis: Basis = Basis.MEASURED) -> Record:
    candidate = Candidate(workload(), DEVICE, DEFAULT)
    return Record(candidate, Measurement(Outcome.OK, samples, basis), MeasurePolicy(), verified=True)


def test_noise_is_the_standard_error_of_the_median() -> None:
    noisy = record(*(1.0 + 0.01 * i for i in range(-4, 5)))  # quartiles 0.98 and 1.02
    assert relative_noise(noisy) == pytest.approx(1.2533 * (0.04 / 1.349) / 3.0)
    assert relative_noise(record(1.0, 1.0, 1.0)) == 0.0
    assert relative_noise(attrs.evolve(noisy, measurement=attrs.evolve(noisy.measurement, basis=Basis.REPLAYED))) == 0.0


@pytest.mark.parametrize(
    ("gain", "trials", "ends"),
    [(1e-4, 64, True), (1e-4, LEAST_TRIALS - 1, False), (0.01, 64, False), (None, 64, False)],
)
def test_a_gain_far_below_the_noise_ends_a_search(gain: float | None, trials: int, ends: bool) -> None:
    assert nothing_to_gain(gain, record(*(1.0 + 0.01 * i for i in range(-4, 5))), trials) is ends
    assert not nothing_to_gain(gain, record(1.0, 1.0), trials)  # without noise every gain counts
    assert not nothing_to_gain(gain, None, trials)


class Satisfied(RandomSampler):
    """Expects nothing."""

    @property
    def expected_gain(self) -> float:
        return 0.0


def test_a_tuner_with_nothing_to_gain_is_exhausted() -> None:
    def trials(sampler: type[Sampler], noise: float) -> int:
        executor = SyntheticExecutor(SyntheticBackend(), noise=noise)

        def make(problem: Problem, seed: int) -> Sampler:
            return sampler(problem, seed)

        tuner = WorkloadTuner(executor.backend, workload(), DEVICE, Bound(1e-3, "peak:f32"), sampler=make)
        session = executor.open(workload(), tuner.policy, 0)
        while not tuner.exhausted and tuner.trials < 80:
            tuner.step(session, 8)
        return tuner.trials

    assert trials(Satisfied, noise=0.1) == LEAST_TRIALS
    assert trials(RandomSampler, noise=0.1) == 80
    assert trials(Satisfied, noise=0.0) == 80
