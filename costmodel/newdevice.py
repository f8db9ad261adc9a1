"""A device nobody measured: ten reference measurements place it among the devices that are known.

As in HELP (Lee et al., 2106.08630) a device is described by the latencies of a few reference points. What that says of
all others is a regression whose weights vary over the space (Gelfand et al., 2003)::

    f(x) = offset + Σ_s w_s(x) · f_s(x) + g(x)

``f_s`` are the known devices, as normal scores of their times; ``w_s`` varies slowly about an equal share, since a new
device may value one corner of the space as one known device does and another corner as another; ``g`` is what none of
them has. All are Gaussian, so ten points are enough to condition on. How fast ``g`` varies along each column is learned
from many points: as the known devices vary, or as what each of them has that the others have not. Ten points tell more
of a sum of functions of one column each than of anything else, so ``g`` may have such a part: effects of columns that
the known devices have too, with weights of their own, and other ones.

A known device that is nothing like the new one is worse than none, and one that is nearly the same is better than ten
measurements. So the model is fitted for several subsets of the known devices, for each with much and with little
that is the new device's own, with and without sums, and with both ways to vary; and the fits are averaged by how
probable they make the references.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.costmodel.additive import Effects
from fettle.costmodel.gaussian import GaussianProcess
from fettle.costmodel.kinship import Kinship, Variances
from fettle.costmodel.likelihood import learn
from fettle.costmodel.metrics import normal_scores

Array = NDArray[np.float64]
Indices = Sequence[int] | NDArray[np.int64]

REFERENCES = 10

_LEARNED_FROM = 300
"""Points from which length scales are learned."""

_POOL = 800
"""Random points among which references are chosen."""

_CHOICE = 5
"""Points for each reference that must be left to choose from."""

_OWN = (1.0, 0.1)
"""How much is the new device's own: factors of the variances of ``g`` and of how weights vary over the space."""

_PLAIN = Variances(effect=0.0, rest=0.0, additive=0.0, rough=0.6, smooth=0.7)
_ADDITIVE = Variances(effect=0.15, rest=0.1, additive=0.5, rough=0.3, smooth=0.1)

_NOISE = 0.05
_LEAST_TRIALS = 8
_LEAST_DEVIATION = 1e-3
"""Of what a device has that others have not; less than that is rounding, as of two recordings of one device."""


def says_something(log_times: Array) -> bool:
    """Whether a known device has enough times, and different ones, to learn from."""
    valid = log_times[np.isfinite(log_times)]
    return len(valid) >= _LEAST_TRIALS and float(np.ptp(valid)) > 0.0


class KnownDevices:
    """What is known of a space before a new device is measured.

    Args:
        features: [points, columns] of :class:`fettle.costmodel.columns.ScheduleColumns`.
        known: [points, devices], log(time) on the known devices; not finite where a point failed or was not tried.

    Raises:
        ValueError: no known device, or one with fewer than eight times, or all of them equal.
    """

    def __init__(self, features: Array, known: Array) -> None:
        if not known.shape[1]:
            raise ValueError("no device is known")
        self._features = features
        measured = np.isfinite(known)
        completed = [_completed(features, *column) for column in zip(known.T, measured.T, strict=True)]
        scores = np.stack([column for column, _ in completed], axis=1)
        varying = np.stack([scales for _, scales in completed])
        everywhere = measured.all(axis=1)
        rows = np.flatnonzero(everywhere if everywhere.sum() >= _LEAST_TRIALS else measured.any(axis=1))
        differing = _differences(features[rows], scores[rows]) if known.shape[1] > 1 else varying
        effects = [Effects.of(features, column, _some(np.arange(len(features)))) for column in scores.T]

        def related(kin: list[int], log_scales: Array, variances: Variances, own: float = 1.0) -> Kinship:
            scales = np.exp(log_scales.mean(axis=0))
            return Kinship(features, scores[:, kin], [effects[device] for device in kin], scales, variances, own)

        subsets = list(_subsets(known.shape[1]))
        self._choosing = [related(kin, varying[kin], _PLAIN) for kin in subsets]
        self._predicting = [
            related(kin, log_scales, variances, own)
            for variances in (_PLAIN, _ADDITIVE)
            for own in _OWN
            for kin in subsets
            for log_scales in (varying[kin], differing)
        ]
        self._tried = measured.sum(axis=1)

    def choose_references(self, rng: np.random.Generator, count: int = REFERENCES) -> list[int]:
        """Points to measure on the new device.

        They are chosen one by one, each so that the least uncertainty is left over the space, in the sum over the
        subsets of devices (greedy A-optimality), where much is the new device's own and varies as the known devices
        do, and is no sum. Points that failed, or were not tried, on a known device are left out as long as five times
        as many as are asked for remain.
        """
        least = np.sort(self._tried)[-_CHOICE * count :][0]
        pool = rng.permutation(np.flatnonzero(self._tried >= least))[:_POOL]
        chosen = least_uncertainty([kin.covariance(pool, pool) for kin in self._choosing], min(count, len(pool)))
        return [int(pool[at]) for at in chosen]

    def predict(self, references: Sequence[int], log_times: Array) -> Array:
        """log(time) of every point on the new device, [points].

        Args:
            references: points measured on the new device.
            log_times: log(time) of the references there, all finite.

        Raises:
            ValueError: fewer than two references, or all equally fast.
        """
        _check(log_times)
        offset, scale = float(log_times.mean()), float(log_times.std())
        everything = np.arange(len(self._features))
        priors = [(kin.scores.mean(axis=1), kin.covariance(references, everything)) for kin in self._predicting]
        return _averaged(priors, references, (log_times - offset) / scale) * scale + offset


def least_uncertainty(covariances: Sequence[Array], count: int) -> list[int]:
    """Points to measure one after the other, each so that the sum of all variances is least then, in the sum over
    several suppositions.

    Args:
        covariances: each [points, points], before anything is measured.
    """
    left = covariances
    chosen: list[int] = []
    for _ in range(count):
        removed = sum(((c**2).sum(axis=0) / (np.diag(c) + _NOISE) for c in left), np.zeros(len(left[0])))
        removed[chosen] = -1.0
        at = int(np.argmax(removed))
        chosen.append(at)
        left = [c - np.outer(c[:, at], c[:, at]) / (c[at, at] + _NOISE) for c in left]
    return chosen


def predict_alone(features: Array, references: Sequence[int], log_times: Array) -> Array:
    """log(time) of every point from the references alone, as if no other device were known; for comparison.

    Raises:
        ValueError: as :meth:`KnownDevices.predict`.
    """
    _check(log_times)
    offset, scale = float(log_times.mean()), float(log_times.std())
    places, targets = features[list(references)], (log_times - offset) / scale
    process = GaussianProcess(learn(places, targets), features)
    process.extend(places)
    return process.mean(targets) * scale + offset


def _check(log_times: Array) -> None:
    if len(log_times) < 2 or np.ptp(log_times) == 0.0:
        raise ValueError("at least two reference points with different times are needed")


def _completed(features: Array, times: Array, measured: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Normal scores of a known device's times, expected ones where it has none, and the logarithms of the scales at
    which it varies."""
    if not says_something(times):
        raise ValueError("too few valid trials to learn from")
    rows = np.flatnonzero(measured)
    scores = np.zeros(len(times))
    scores[rows] = normal_scores(times[rows])
    some = _some(rows)
    hyper = learn(features[some], scores[some])
    if not measured.all():
        process = GaussianProcess(hyper, features[~measured])
        process.extend(features[some])
        scores[~measured] = process.mean(scores[some])
    return scores, np.log(hyper.scales)


def _differences(features: Array, scores: Array) -> Array:
    """Logarithms of the scales, [devices, columns], at which each device less its regression on the others varies.

    Args:
        scores: [points, devices], at least two.
    """
    some = _some(np.arange(len(features)))
    found = []
    for number, column in enumerate(scores.T):
        others = np.column_stack([np.ones(len(scores)), np.delete(scores, number, axis=1)])
        own = column - others @ np.linalg.lstsq(others, column)[0]
        own = own if own.std() > _LEAST_DEVIATION else column
        found.append(np.log(learn(features[some], own[some] / own.std()).scales))
    return np.stack(found)


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Random ones, always the same."""
    return np.random.default_rng(0).permutation(rows)[:_LEARNED_FROM]


def _subsets(count: int) -> Iterator[list[int]]:
    """Of the known devices: each, every pair, and all."""
    for size in sorted({1, min(2, count), count}):
        for subset in itertools.combinations(range(count), size):
            yield list(subset)


def _averaged(priors: Sequence[tuple[Array, Array]], references: Sequence[int], targets: Array) -> Array:
    """Posterior means, averaged by the probability of the targets (Rasmussen and Williams, 2006, eq. 2.25, 2.30).

    Args:
        priors: of each supposition, the mean, [points], and the covariance of references with points.
    """
    places = list(references)
    means, evidence = [], []
    for mean, covariance in priors:
        lower = np.linalg.cholesky(covariance[:, places] + _NOISE * np.eye(len(places)))
        whitened = np.linalg.solve(lower, targets - mean[places])
        means.append(mean + np.linalg.solve(lower.T, whitened) @ covariance)
        evidence.append(-0.5 * float(whitened @ whitened) - float(np.log(np.diag(lower)).sum()))
    weights = np.exp(np.array(evidence) - max(evidence))
    return np.asarray(weights @ np.stack(means) / weights.sum(), np.float64)
