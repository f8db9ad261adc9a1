"""Finals: the best few against the default schedule, interleaved, so that a winner is not a lucky sample.

All figures are distribution-free: an interval of a median is a pair of order statistics, whose coverage follows from
the binomial distribution (the sign test), since timing noise is skewed and has outliers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import attrs

from fettle.backends.api import Artifact, Measurement, MeasurePolicy, Record
from fettle.backends.host.executor import Session

CHALLENGERS = 3
ROUNDS = 15
SHORT_ROUNDS = 7
"""Of a cancelled job, and of kernels so slow that more rounds would take too long."""

BOUTS = 4
"""How often the rounds may be repeated while noise leaves the winner open."""

MARGIN = 0.005
"""A winner is at least this much faster than the default, beyond the noise: half a percent pays for no new layout."""

_CONFIDENCE = 0.95
_LONGEST = 10.0
"""Seconds that sampling may take before rounds are cut down to :data:`SHORT_ROUNDS`."""


@attrs.frozen(eq=False)
class Finalist:
    """A verified trial with its artifact at hand."""

    record: Record
    artifact: Artifact


@attrs.frozen(eq=False)
class Verdict:
    """The winner and its figures, in seconds.

    Attributes:
        default_s: median of the default schedule; None if it never gave a right result.
        best_s, best_ci: the winner's median and the median's 95 % interval.
        ratio_ci: interval of the median over rounds of winner / default; None if the default won or is missing.
        undecided: the default won for want of certainty: a challenger looked faster by more than the margin.
    """

    winner: Finalist
    measurement: Measurement
    default_s: float | None
    best_s: float
    best_ci: tuple[float, float]
    ratio_ci: tuple[float, float] | None = None
    undecided: bool = False


def median_interval(samples: Sequence[float], confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Order statistics that contain the median with at least this probability, for independent samples.

    With too few samples for that (fewer than 6 at 95 %) it is their whole range.
    """
    ordered = sorted(samples)
    n = len(ordered)
    below = 0.0  # P(at most r of n samples lie below the median)
    rank = 0
    for r in range(n // 2):
        below += math.comb(n, r) / 2.0**n
        if 2.0 * below > 1.0 - confidence:
            break
        rank = r
    return ordered[rank], ordered[n - 1 - rank]


def rounds_for(policy: MeasurePolicy, medians: Sequence[float], short: bool = False) -> int:
    """How many interleaved rounds one bout takes of kernels with these medians in seconds."""
    if short or ROUNDS * round_seconds(policy, medians) > _LONGEST:
        return SHORT_ROUNDS
    return ROUNDS


def round_seconds(policy: MeasurePolicy, medians: Sequence[float]) -> float:
    """About how long one round over kernels with these medians takes."""
    return sum(max(policy.min_sample, median) for median in medians)


def play(
    session: Session,
    default: Finalist | None,
    challengers: Sequence[Finalist],
    rounds: int,
    may_repeat: Callable[[], bool] = lambda: True,
) -> Verdict | None:
    """Measure the default and the challengers side by side and decide; None if nothing could be measured.

    On a quiet machine one bout of ``rounds`` rounds decides. When noise leaves it open whether a challenger that looks
    faster is faster, up to :data:`BOUTS` bouts are played, as long as ``may_repeat()``, and judged together.
    """
    players = [*([default] if default else []), *challengers]
    if not players:
        return None
    measurements: list[Measurement] = []
    verdict = None
    for played in range(1, BOUTS + 1):
        bout = session.compare([p.artifact for p in players], rounds)
        measurements = [_joined(m, new) for m, new in zip(measurements, bout, strict=True)] if measurements else bout
        verdict = judge(players, measurements, default is not None, BOUTS)
        if verdict is None or not verdict.undecided or played == BOUTS or not may_repeat():
            break
    return verdict


def _joined(one: Measurement, two: Measurement) -> Measurement:
    """Samples of both; a failure in either is a failure."""
    if not (one.ok and two.ok):
        return two if one.ok else one
    return Measurement.joined([one, two])


def judge(
    players: Sequence[Finalist], measurements: Sequence[Measurement], with_default: bool, bouts: int = 1
) -> Verdict | None:
    """:func:`decide`, with a measurement for each player; the default is the first of them, if it plays."""
    pairs = list(zip(players, measurements, strict=True))
    return decide(pairs[0], pairs[1:], bouts) if with_default else decide(None, pairs, bouts)


def decide(
    default: tuple[Finalist, Measurement] | None,
    challengers: Sequence[tuple[Finalist, Measurement]],
    bouts: int = 1,
) -> Verdict | None:
    """The winner of interleaved samples.

    A challenger beats the default if the interval of the median over rounds of log(challenger / default) lies below
    log(1 - MARGIN). The intervals' confidence is 1 - 0.05 / (challengers · bouts), so that trying several challengers,
    and looking several times, keeps the risk of a false winner below 5 % (Bonferroni). The fastest such challenger
    wins; with none, the default does. Without a default that works, the fastest median wins. None if nothing was
    measured.
    """
    measured = [(finalist, m) for finalist, m in challengers if m.ok]
    if default is None or not default[1].ok:
        if not measured:
            return None
        winner, measurement = min(measured, key=lambda pair: pair[1].time)
        return Verdict(winner, measurement, None, measurement.time, median_interval(measurement.samples))
    base = default[1]
    best: tuple[float, Finalist, Measurement, tuple[float, float]] | None = None
    promising = False
    for finalist, measurement in measured:
        logs = [math.log(s / d) for s, d in zip(measurement.samples, base.samples, strict=True)]
        low, high = median_interval(logs, 1.0 - (1.0 - _CONFIDENCE) / (len(measured) * bouts))
        typical = statistics.median(logs)
        promising |= typical < math.log1p(-MARGIN)
        faster = high < math.log1p(-MARGIN) and measurement.time < base.time
        if faster and (best is None or typical < best[0]):
            best = (typical, finalist, measurement, (math.exp(low), math.exp(high)))
    if best is None:
        interval = median_interval(base.samples)
        return Verdict(default[0], base, base.time, base.time, interval, undecided=promising)
    _, winner, measurement, ratio_ci = best
    return Verdict(winner, measurement, base.time, measurement.time, median_interval(measurement.samples), ratio_ci)
