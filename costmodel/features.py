"""What the cost model sees of a candidate: numbers under fixed, sorted names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Artifact, Backend, Candidate, Device
from fettle.backends.spaces import Points
from fettle.costmodel.model import Scaling
from fettle.graph.workload import Workload

Array = NDArray[np.float64]

ANALYTIC = "analytic:log_seconds"
"""Natural logarithm of :meth:`Backend.estimate`, where the backend has one."""

_KEPT_ROWS = 65536
"""Rows that are remembered; beyond that all are computed anew."""

_SCALING_SAMPLE = 512
"""Schedules whose features are taken for the range that columns have."""

_NAMING_SAMPLE = 128
"""Schedules looked at to learn which names the backend's features have (they may depend on the algorithm)."""


class Featurizer:
    """Feature vectors of the points of one (workload, device).

    Columns, by sorted name:

    * ``log2:tile`` (all choices positive) or ``value:offset`` for a numeric parameter,
    * ``choice:algorithm=lut``, 1 or 0, for each choice of any other parameter,
    * ``backend:NAME`` for the numbers of :meth:`Backend.features` without an artifact,
    * :data:`ANALYTIC`.

    A backend's name that a schedule lacks is NaN: trees take it as it is, the Gaussian process as the column's mean.
    """

    def __init__(self, backend: Backend, workload: Workload, device: Device, points: Points) -> None:
        self._backend = backend
        self._workload = workload
        self._device = device
        self._points = points
        self._rows: dict[int, Array] = {}
        sample = points.sample(np.random.default_rng(0), _NAMING_SAMPLE)
        self._backend_names = sorted({name for i in sample for name in self._backend_features(i, None)})
        unsorted = [*self._parameters([0])[0], *self._backend_names]
        self._order = np.argsort(np.array(unsorted))
        self.names = tuple(sorted(unsorted))

    @property
    def analyses(self) -> bool:
        """Whether the backend says more of a schedule than its values."""
        return bool(self._backend_names)

    def matrix(self, indices: Sequence[int]) -> Array:
        """Features of points known before building, [len(indices), len(names)]."""
        if len(self._rows) > _KEPT_ROWS:
            self._rows.clear()
        new = [i for i in dict.fromkeys(indices) if i not in self._rows]
        if new:
            _, parameters = self._parameters(new)
            features = [self._backend_features(i, None) for i in new]
            extra = np.array([[f.get(name, math.nan) for name in self._backend_names] for f in features])
            rows = np.concatenate([parameters, extra], axis=1)[:, self._order]
            self._rows.update(zip(new, rows, strict=True))
        return np.stack([self._rows[i] for i in indices]) if len(indices) else np.empty((0, len(self.names)))

    def as_built(self, index: int, artifact: Artifact | None) -> tuple[tuple[str, float], ...]:
        """All that is known of a built candidate, for its record: the parameters' columns, the backend's features of
        the lowered program, numeric ``artifact:FACT``, ``workload:log2_flops``, ``workload:log2_bytes``; by name.
        """
        names, values = self._parameters([index])
        features = dict(zip(names, values[0].tolist(), strict=True))
        features |= self._backend_features(index, artifact)
        if artifact is not None:
            features |= {f"artifact:{k}": float(v) for k, v in artifact.facts if isinstance(v, int | float)}
        features["workload:log2_flops"] = math.log2(max(self._workload.flops, 1))
        features["workload:log2_bytes"] = math.log2(max(self._workload.nbytes, 1))
        return tuple(sorted(features.items()))

    def _backend_features(self, index: int, artifact: Artifact | None) -> Mapping[str, float]:
        candidate = Candidate(self._workload, self._device, self._points[index])
        numbers = {
            f"backend:{name}": float(value) for name, value in self._backend.features(candidate, artifact).items()
        }
        estimate = self._backend.estimate(candidate)
        return numbers if estimate is None else {ANALYTIC: math.log(estimate), **numbers}

    def _parameters(self, indices: Sequence[int]) -> tuple[list[str], Array]:
        """Names and columns [n, names] of the schedule's own values."""
        names: list[str] = []
        columns: list[Array] = []
        for parameter, values in zip(self._points.space.parameters, self._points.encode(indices).T, strict=True):
            if not parameter.is_numeric:
                names += [f"choice:{parameter.name}={choice}" for choice in parameter.choices]
                columns += [(values == ordinal).astype(np.float64) for ordinal in range(len(parameter.choices))]
            elif float(parameter.choices[0]) > 0.0:  # choices ascend
                names.append(f"log2:{parameter.name}")
                columns.append(np.log2(values))
            else:
                names.append(f"value:{parameter.name}")
                columns.append(values)
        return names, np.stack(columns, axis=1) if columns else np.empty((len(indices), 0))


class UnitFeatures:
    """:meth:`Featurizer.matrix` with every column between 0 and 1 over a sample of the space (elsewhere it may be a
    little beyond), without the columns that are constant there; what is missing is the column's mean.
    """

    def __init__(self, featurizer: Featurizer, points: Points) -> None:
        sample = featurizer.matrix(points.sample(np.random.default_rng(0), _SCALING_SAMPLE))
        self._featurizer = featurizer
        self._scaling = Scaling.of(sample, np.zeros(len(sample)))
        self._varying = np.ptp(self._scaling.features(sample), axis=0) > 0.0

    def __call__(self, indices: Sequence[int]) -> Array:
        """[len(indices), columns]."""
        return self._scaling.features(self._featurizer.matrix(indices))[:, self._varying]
