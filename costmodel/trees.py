"""Boosted trees on bootstrap samples; their spread is the uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BAGS = 4
"""Models whose spread is the uncertainty."""

_ROUNDS = 80
_TOTAL_RATE = 9.6
"""Learning rate times rounds."""

_OPTIONS = {
    "objective": "regression",
    "num_leaves": 15,
    "min_data_in_leaf": 4,
    "feature_fraction": 0.8,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""Small leaves: models are fitted to some hundred trials."""


class BoostedTrees:
    """An ensemble of LightGBM models."""

    def __init__(self, boosters: Sequence[Any]) -> None:
        self._boosters = tuple(boosters)

    @classmethod
    def fit(cls, features: Array, targets: Array, seed: int, bags: int = _BAGS, rounds: int = _ROUNDS) -> BoostedTrees:
        """Learn from [trials, columns] (NaN is missing) and [trials]; the first bag is all of them. With one bag there
        is no spread."""
        import lightgbm

        rng = np.random.default_rng(seed)
        options = _OPTIONS | {"learning_rate": _TOTAL_RATE / rounds}
        boosters = []
        for bag in range(bags):
            rows = np.sort(rng.integers(0, len(targets), len(targets))) if bag else np.arange(len(targets))
            data = lightgbm.Dataset(features[rows], targets[rows])
            boosters.append(lightgbm.train(options | {"seed": seed + bag}, data, num_boost_round=rounds))
        return cls(boosters)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation over the ensemble, [rows]."""
        each = np.stack([booster.predict(features, num_threads=1) for booster in self._boosters])
        return each.mean(axis=0), each.std(axis=0)

    def texts(self) -> tuple[str, ...]:
        """The models in LightGBM's text format."""
        return tuple(booster.model_to_string() for booster in self._boosters)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> BoostedTrees:
        """The inverse of :meth:`texts`. Raises ``lightgbm.basic.LightGBMError`` for anything else."""
        import lightgbm

        return cls([lightgbm.Booster(model_str=text) for text in texts])
