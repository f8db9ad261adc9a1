"""Feature vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fettle.backends.api import Artifact, Candidate
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.features import Featurizer
from tests.search.synthetic import DEFAULT, DEVICE, SyntheticBackend, workload


class PartialFeatures(SyntheticBackend):
    """Has a feature for one algorithm only, and one more after building."""

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        extra = {"tables": 3.0} if candidate.schedule["algorithm"] == "lut" else {}
        return extra | ({"spills": 1.0} if artifact else {})


def featurizer(backend: SyntheticBackend) -> Featurizer:
    points = enumerate_space(backend.space(workload(), DEVICE))
    return Featurizer(backend, workload(), DEVICE, points)


def test_columns_are_sorted_and_hold_the_schedules_values() -> None:
    made = featurizer(SyntheticBackend())
    points = enumerate_space(SyntheticBackend().space(workload(), DEVICE))
    index = points.index(DEFAULT)
    assert index is not None
    row = dict(zip(made.names, made.matrix([index])[0], strict=True))
    assert list(made.names) == sorted(made.names)
    assert row["log2:tile_m"] == 3.0
    assert row["value:prefetch"] == 0.0
    assert row["choice:algorithm=plain"] == 1.0
    assert row["choice:algorithm=lut"] == 0.0
    assert row["backend:log2_area"] == 6.0


def test_a_feature_only_some_schedules_have_is_nan_for_the_others() -> None:
    made = featurizer(PartialFeatures())
    points = enumerate_space(PartialFeatures().space(workload(), DEVICE))
    column = made.matrix(range(0, len(points), 97))[:, made.names.index("backend:tables")]
    lut = np.array([points[i]["algorithm"] == "lut" for i in range(0, len(points), 97)])
    assert (column[lut] == 3.0).all()
    assert np.isnan(column[~lut]).all()


def test_a_built_candidate_adds_facts_of_the_program_and_the_workload() -> None:
    backend = PartialFeatures()
    made = featurizer(backend)
    points = enumerate_space(backend.space(workload(), DEVICE))
    index = points.index(DEFAULT)
    assert index is not None
    built = made.as_built(index, backend.build(Candidate(workload(), DEVICE, DEFAULT)))
    assert list(built) == sorted(built)
    features = dict(built)
    assert features["artifact:instructions"] == 100.0
    assert features["backend:spills"] == 1.0
    assert features["workload:log2_flops"] == math.log2(2 * 16 * 256 * 256)
    assert "backend:spills" not in made.names
