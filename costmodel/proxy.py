"""A learned stand-in for a simulator: cycles of schedules it was not shown, in a small part of the simulator's time."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Backend, Device
from fettle.backends.spaces import Points, enumerate_space
from fettle.costmodel.features import Featurizer
from fettle.costmodel.model import CostModel
from fettle.graph.workload import Workload

_PROCESS_BELOW = 2000
"""Rows up to which a Gaussian process is fitted: it follows a simulator, which has no noise, closer than trees do."""

_ESTIMATE = "backend:log2_cycles"
"""A backend's own first estimate; where it gives one, what is learned is how far that is off."""


@attrs.frozen(eq=False)
class Proxy:
    """Predicts cycles from the features that the backend knows before it simulates.

    Attributes:
        model: of log2(cycles) less the backend's estimate.
        usual: its mean over what was shown, which is all there is to say where that never varied.
    """

    points: Points
    featurizer: Featurizer
    model: CostModel
    usual: float

    @classmethod
    def learn(cls, backend: Backend, workload: Workload, device: Device, shown: int, seed: int = 0) -> Proxy:
        """Simulate ``shown`` random schedules of the space and learn from them.

        Raises:
            Unsupported: the backend has no model to simulate.
        """
        points = enumerate_space(backend.space(workload, device))
        numbers = points.sample(np.random.default_rng(seed), shown)
        featurizer = Featurizer(backend, workload, device, points)
        model = CostModel(seed, gaussian_process_below=_PROCESS_BELOW)
        truth = np.log2(simulated(backend, workload, device, points, numbers))
        missed = truth - _estimate(featurizer, numbers)
        model.fit(featurizer.matrix(numbers), missed)
        return cls(points, featurizer, model, float(missed.mean()))

    def cycles(self, numbers: Sequence[int]) -> NDArray[np.float64]:
        """Predicted cycles of the points of those numbers."""
        features = self.featurizer.matrix(numbers)
        missed = self.usual if self.model.fitted is None else self.model.predict(features).mean
        return np.asarray(2.0 ** (_estimate(self.featurizer, numbers) + missed))


def _estimate(featurizer: Featurizer, numbers: Sequence[int]) -> NDArray[np.float64]:
    """log2(cycles) as the backend guesses them; 0 if it does not."""
    if _ESTIMATE not in featurizer.names:
        return np.zeros(len(numbers))
    return featurizer.matrix(numbers)[:, featurizer.names.index(_ESTIMATE)]


def simulated(
    backend: Backend, workload: Workload, device: Device, points: Points, numbers: Sequence[int]
) -> NDArray[np.float64]:
    """What the simulator says of some points."""
    runs = (backend.simulate(workload, device, points[number].as_dict()) for number in numbers)
    return np.array([run.cycles for run in runs], np.float64)
