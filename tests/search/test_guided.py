"""Our sampler: batches are valid, new, diverse, and better than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fettle.backends.api import Outcome, Parameter, Schedule, Space
from fettle.backends.spaces import Points, enumerate_space
from fettle.costmodel.transfer import Trials, make_prior
from fettle.search.samplers import Observation, Problem
from fettle.search.samplers import guided as module
from fettle.search.samplers.guided import GuidedSampler, expected_improvement
from fettle.search.samplers.pool import WHOLE, candidates
from fettle.search.samplers.uniform import RandomSampler
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, chance, workload


def setup(backend: SyntheticBackend, seed: int = 0) -> tuple[Points, GuidedSampler]:
    points = enumerate_space(backend.space(workload(), DEVICE))
    default = points.index(DEFAULT)
    assert default is not None
    return points, GuidedSampler(Problem(points, default), seed)


def measure(backend: SyntheticBackend, points: Points, index: int) -> Observation:
    failed = backend.fails(points[index]) is not None
    return Observation(index, math.inf if failed else math.log(backend.seconds(workload(), points[index])))


def search(
    backend: SyntheticBackend, seed: int, trials: int, sampler: GuidedSampler | None = None
) -> list[Observation]:
    points, fresh = setup(backend, seed)
    sampler = sampler or fresh
    history: list[Observation] = []
    while len(history) < trials:
        history += (told := [measure(backend, points, p.index) for p in sampler.propose(8)])
        sampler.tell(told)
    return history


def test_the_first_batch_begins_with_the_default_and_covers_every_algorithm_or_nearly() -> None:
    points, sampler = setup(SyntheticBackend())
    batch = sampler.propose(8)
    assert points[batch[0].index] == DEFAULT
    assert len({p.index for p in batch}) == 8
    assert len({points[p.index]["algorithm"] for p in batch}) >= 3
    assert all(p.predicted is None for p in batch)
    assert sampler.expected_gain is None


def test_points_of_a_batch_differ_in_at_least_two_parameters() -> None:
    backend = SyntheticBackend()
    points, sampler = setup(backend)
    sampler.tell([measure(backend, points, p.index) for p in sampler.propose(8)])
    schedules = [points[p.index].as_dict() for p in sampler.propose(8)]
    for i, one in enumerate(schedules):
        for two in schedules[:i]:
            assert sum(one[name] != two[name] for name in one) >= 2


def test_the_search_beats_random_at_equal_trials_over_seeds() -> None:
    ours, chances = [], []
    for seed in range(4):

        def fails(schedule: Schedule, seed: int = seed) -> Outcome | None:
            return Outcome.CRASH if chance(seed, schedule["algorithm"], schedule["unroll"]) < 0.1 else None

        backend = SyntheticBackend(variant=seed, fails=fails if seed % 2 else lambda schedule: None)
        points = enumerate_space(backend.space(workload(), DEVICE))
        ours.append(min(o.value for o in search(backend, seed, 48)))
        drawn = RandomSampler(Problem(points), seed).propose(48)
        chances.append(min(measure(backend, points, p.index).value for p in drawn))
    assert np.mean(ours) < np.mean(chances) - math.log(1.1)  # at least 10 % faster kernels in the mean


def test_a_point_that_is_expected_to_fail_is_avoided() -> None:
    """Half of all points fail, the fastest among them: a search without a model of that would try mostly those."""

    def fails(schedule: Schedule) -> Outcome | None:
        return Outcome.CRASH if schedule["unroll"] >= 4 else None

    histories = [search(SyntheticBackend(variant=1, fails=fails), seed, 64) for seed in range(2)]
    assert sum(math.isinf(o.value) for history in histories for o in history[32:]) < 64 / 4


def test_more_points_than_are_looked_at_whole_can_be_searched() -> None:
    space = Space(tuple(Parameter.integers(name, 0, 99) for name in "abcde"))  # 10^10
    points = enumerate_space(space)

    def value(index: int) -> float:
        return math.log(1.0 + sum(abs(v - 60) for v in points[index].as_dict().values() if isinstance(v, int)))

    sampler = GuidedSampler(Problem(points), 0)
    told: list[Observation] = []
    while len(told) < 56:
        told += (new := [Observation(p.index, value(p.index)) for p in sampler.propose(8)])
        sampler.tell(new)
    assert min(o.value for o in told) < math.log(1.0 + 60.0)  # random ones: 125 away in the mean
    pool = candidates(points, {o.index: o.value for o in told}, np.random.default_rng(0))
    assert len(set(pool)) == len(pool) < WHOLE


def test_trees_take_over_from_the_gaussian_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TREES_FROM", 64)
    backend = SyntheticBackend()
    points, sampler = setup(backend)
    history = search(backend, 0, 88, sampler)
    assert len({o.index for o in history}) == 88
    assert isinstance(sampler._stage and sampler._stage.surrogate, module.TreeSurrogate)
    drawn = [measure(backend, points, i).value for i in points.sample(np.random.default_rng(0), 200)]
    assert np.mean([o.value for o in history[64:]]) < np.quantile(drawn, 0.5)


def test_trials_on_another_device_are_a_head_start() -> None:
    """The other device is 3 times slower and noisy, but likes the same schedules."""
    backend = SyntheticBackend(variant=2)
    points, _ = setup(backend)
    rng = np.random.default_rng(0)
    sample = points.sample(rng, 600)
    values = np.array([measure(backend, points, i).value for i in sample])
    elsewhere = Trials(tuple(points[i] for i in sample), values + math.log(3.0) + 0.1 * rng.standard_normal(600))
    prior = make_prior(points, [elsewhere])
    warm, cold = (
        min(o.value for o in search(backend, 0, 16, GuidedSampler(Problem(points, points.index(DEFAULT) or 0, p), 0)))
        for p in (prior, None)
    )
    assert warm < cold
    assert warm < np.quantile(values, 0.01)


def test_a_misleading_prior_is_unlearned() -> None:
    """What is fast elsewhere is slow here."""
    backend = SyntheticBackend(variant=3)
    points, _ = setup(backend)
    sample = points.sample(np.random.default_rng(0), 300)
    values = np.array([measure(backend, points, i).value for i in sample])
    prior = make_prior(points, [Trials(tuple(points[i] for i in sample), -values)])
    sampler = GuidedSampler(Problem(points, points.index(DEFAULT) or 0, prior), 0)
    assert min(o.value for o in search(backend, 0, 64, sampler)) < np.quantile(values, 0.02)


def test_many_trials_here_say_all_that_trials_elsewhere_could() -> None:
    """From then on the sampler proposes as one that never heard of them."""
    backend = SyntheticBackend(variant=3)
    points, _ = setup(backend)
    sample = points.sample(np.random.default_rng(0), 300)
    values = np.array([measure(backend, points, i).value for i in sample])
    prior = make_prior(points, [Trials(tuple(points[i] for i in sample), values)])
    samplers = [GuidedSampler(Problem(points, points.index(DEFAULT) or 0, p), 0) for p in (prior, None)]

    def proposed(trials: int) -> list[list[int]]:
        for sampler in samplers:
            sampler.tell([measure(backend, points, i) for i in sample[:trials]])
        return [[proposal.index for proposal in sampler.propose(4)] for sampler in samplers]

    warm, cold = proposed(16)
    assert warm != cold
    warm, cold = proposed(48)
    assert warm == cold


def test_expected_gain_shrinks_as_the_best_is_found() -> None:
    backend = SyntheticBackend(small=True, rugged=0.0)
    points, sampler = setup(backend)
    gains = []
    for _ in range(3):
        sampler.tell([measure(backend, points, p.index) for p in sampler.propose(8)])
        sampler.propose(1)
        gains.append(sampler.expected_gain)
    assert gains[-1] is not None
    assert gains[0] is not None
    assert gains[-1] < 0.1 * gains[0]


def test_expected_improvement_is_the_mean_of_the_improvement() -> None:
    mean, std = np.array([0.0, 1.0, -1.0]), np.array([1.0, 0.5, 0.1])
    drawn = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    expected = [np.maximum(0.2 - (m + s * drawn), 0.0).mean() for m, s in zip(mean, std, strict=True)]
    assert expected_improvement(mean, std, 0.2) == pytest.approx(expected, abs=1e-4)
