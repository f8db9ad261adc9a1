"""Who wins the finals, and with what confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from fettle.backends.api import Artifact, Candidate, Measurement, MeasurePolicy, Outcome, Record, Schedule
from fettle.search.finals import ROUNDS, SHORT_ROUNDS, Finalist, decide, median_interval, play, rounds_for
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, SyntheticSession, workload


def finalist(schedule: Schedule) -> Finalist:
    candidate = Candidate(workload(), DEVICE, schedule)
    record = Record(candidate, Measurement(Outcome.OK, (1.0,)), MeasurePolicy(), verified=True)
    return Finalist(record, SyntheticBackend().build(candidate))


def other(unroll: int) -> Finalist:
    return finalist(Schedule(tuple((DEFAULT.as_dict() | {"unroll": unroll}).items())))


def ok(samples: Sequence[float]) -> Measurement:
    return Measurement(Outcome.OK, tuple(samples))


BASE = finalist(DEFAULT)
FAILED = Measurement.failure(Outcome.CRASH, "gone")


def noisy(seconds: float, noise: float, seed: int, rounds: int = ROUNDS) -> Measurement:
    return ok(seconds * np.exp(noise * np.random.default_rng(seed).standard_normal(rounds)))


def test_the_interval_of_the_median_is_that_of_the_sign_test() -> None:
    samples = list(range(15))
    assert median_interval(samples) == (3, 11)  # 4th and 12th of 15: the textbook pair at 95 %
    for n in range(6, 40):
        low, high = median_interval(list(range(n)))
        assert 1 - 2 * stats.binom.cdf(low, n, 0.5) >= 0.95
        if low + 1 < n // 2:  # one rank further in would be too narrow
            assert 1 - 2 * stats.binom.cdf(low + 1, n, 0.5) < 0.95
        assert low + high == n - 1


def test_with_too_few_samples_the_interval_is_their_range() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([5.0]) == (5.0, 5.0)


def test_a_clearly_faster_challenger_wins_with_its_figures() -> None:
    verdict = decide((BASE, noisy(1.0, 0.02, 0)), [(other(2), noisy(0.8, 0.02, 1)), (other(4), noisy(0.7, 0.02, 2))])
    assert verdict is not None
    assert verdict.winner.record.candidate.schedule["unroll"] == 4
    samples = sorted(noisy(0.7, 0.02, 2).samples)
    assert verdict.best_s == samples[7]
    assert verdict.best_ci == (samples[3], samples[11])
    assert verdict.default_s == sorted(noisy(1.0, 0.02, 0).samples)[7]
    assert verdict.ratio_ci is not None
    assert verdict.ratio_ci[0] < 0.7 < verdict.ratio_ci[1] < 0.8


def test_a_tie_goes_to_the_default() -> None:
    verdict = decide((BASE, noisy(1.0, 0.05, 0)), [(other(2), noisy(1.0, 0.05, 1))])
    assert verdict is not None
    assert verdict.winner is BASE
    assert verdict.best_s == verdict.default_s


def test_a_gain_within_the_margin_is_a_tie_even_without_noise() -> None:
    assert decide((BASE, ok([1.0] * 15)), [(other(2), ok([0.997] * 15))]).winner is BASE  # type: ignore[union-attr]
    assert decide((BASE, ok([1.0] * 15)), [(other(2), ok([0.99] * 15))]).winner is not BASE  # type: ignore[union-attr]


def test_equal_kernels_rarely_beat_the_default() -> None:
    false_winners = 0
    for seed in range(200):
        challengers = [(other(2 << i), noisy(1.0, 0.05, 1000 * (i + 1) + seed)) for i in range(3)]
        verdict = decide((BASE, noisy(1.0, 0.05, seed)), challengers)
        assert verdict is not None
        false_winners += verdict.winner is not BASE
    assert false_winners <= 10  # one-sided risk: at most 2.5 % in expectation


def test_pairing_sees_through_noise_that_hits_all_alike() -> None:
    drift = np.exp(0.5 * np.random.default_rng(0).standard_normal(15))
    verdict = decide((BASE, ok(drift)), [(other(2), ok(0.95 * drift))])
    assert verdict is not None
    assert verdict.winner is not BASE


def test_a_challenger_that_failed_cannot_win() -> None:
    verdict = decide((BASE, noisy(1.0, 0.01, 0)), [(other(2), FAILED)])
    assert verdict is not None
    assert verdict.winner is BASE


def test_without_a_working_default_the_fastest_wins_and_no_default_time_is_claimed() -> None:
    for default in (None, (BASE, FAILED)):
        verdict = decide(default, [(other(2), ok([2.0] * 7)), (other(4), ok([1.0] * 7))])
        assert verdict is not None
        assert verdict.winner.record.candidate.schedule["unroll"] == 4
        assert verdict.default_s is None
    assert decide((BASE, FAILED), [(other(2), FAILED)]) is None


@pytest.mark.parametrize(("medians", "short", "rounds"), [([1e-4], False, ROUNDS), ([1e-4], True, SHORT_ROUNDS),
                                                          ([1.0, 1.0], False, SHORT_ROUNDS)])  # fmt: skip
def test_slow_kernels_and_cancelled_jobs_get_fewer_rounds(medians: list[float], short: bool, rounds: int) -> None:
    assert rounds_for(MeasurePolicy(), medians, short) == rounds


class Rounds(SyntheticSession):
    """A session whose comparisons return prepared samples, ``rounds`` more each time."""

    def __init__(self, *samples: Sequence[float]) -> None:
        self.samples, self.played = samples, 0

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        begin, self.played = self.played, self.played + rounds
        return [ok(s[begin : self.played]) for s in self.samples[: len(artifacts)]]


def test_a_quiet_machine_decides_in_one_bout_and_a_noisy_one_plays_on() -> None:
    quiet = Rounds(noisy(1.0, 0.01, 0, 60).samples, noisy(0.9, 0.01, 1, 60).samples)
    loud = Rounds(noisy(1.0, 0.2, 0, 60).samples, noisy(0.8, 0.2, 1, 60).samples)
    for session, rounds in ((quiet, 15), (loud, 30)):
        verdict = play(session, BASE, [other(2)], 15)
        assert verdict is not None
        assert verdict.winner is not BASE
        assert session.played == rounds
        assert len(verdict.measurement.samples) == rounds


def test_what_stays_open_goes_to_the_default() -> None:
    session = Rounds(noisy(1.0, 0.5, 0, 60).samples, noisy(0.97, 0.5, 1, 60).samples)
    verdict = play(session, BASE, [other(2)], 15)
    assert verdict is not None
    assert verdict.winner is BASE
    hurried = Rounds(noisy(1.0, 0.2, 0, 60).samples, noisy(0.8, 0.2, 1, 60).samples)
    verdict = play(hurried, BASE, [other(2)], 15, may_repeat=lambda: False)
    assert verdict is not None
    assert (verdict.winner, verdict.undecided, hurried.played) == (BASE, True, 15)
