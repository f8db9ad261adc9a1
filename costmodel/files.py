"""Cost models as plain data: LightGBM's own text, Gaussian processes as arrays. Never a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from fettle.costmodel.covariance import Hyperparameters
from fettle.costmodel.model import CostModel, ProcessFit, Scaling
from fettle.costmodel.trees import BoostedTrees
from fettle.graph import codec
from fettle.graph.errors import DataLoss

VERSION = 2

SourceModel = BoostedTrees | Hyperparameters
"""The model of trials that are at hand: of a Gaussian process what was learned from them is all that is stored."""


def dumps(model: CostModel, names: tuple[str, ...]) -> bytes:
    """A fitted model and the names of its columns, in the canonical encoding. Raises ValueError before a fit."""
    if model.fitted is None:
        raise ValueError("the cost model has not been fitted")
    data: dict[str, Any] = {"version": VERSION, "names": list(names), "scores": model.scores.tolist()}
    if isinstance(model.fitted, BoostedTrees):
        return codec.encode(data | {"kind": "trees", "trees": list(model.fitted.texts())})
    fit = model.fitted
    scaling, hyper = fit.scaling, fit.hyper
    return codec.encode(
        data
        | {
            "kind": "process",
            "low": scaling.low.tolist(),
            "span": scaling.span.tolist(),
            "middle": scaling.middle.tolist(),
            "offset": scaling.offset,
            "scale": scaling.scale,
            **_hyper_data(hyper),
            "x": fit.x.tolist(),
            "y": fit.y.tolist(),
            "analytic": fit.analytic,
            "trend": fit.trend.tolist(),
        }
    )


def loads(data: bytes) -> tuple[CostModel, tuple[str, ...]]:
    """The inverse of :func:`dumps`: predictions are the same, bit for bit.

    Raises:
        DataLoss: no cost model, or one of another version.
    """
    with _reading(data) as found:
        fitted = BoostedTrees.from_texts(found["trees"]) if found["kind"] == "trees" else _process(found)
        return CostModel.restore(fitted, _array(found, "scores")), tuple(found["names"])


def dump_source(model: SourceModel, trained_on: str) -> bytes:
    """The model of trials elsewhere, in the canonical encoding.

    Args:
        trained_on: key of the trials.
    """
    data: dict[str, Any] = {"version": VERSION, "trained_on": trained_on}
    if isinstance(model, BoostedTrees):
        return codec.encode(data | {"kind": "trees source", "trees": list(model.texts())})
    return codec.encode(data | {"kind": "process source", **_hyper_data(model)})


def load_source(data: bytes) -> tuple[SourceModel, str]:
    """The inverse of :func:`dump_source`, bit for bit. Raises DataLoss as :func:`loads`."""
    with _reading(data) as found:
        if found["kind"] == "trees source":
            return BoostedTrees.from_texts(found["trees"]), str(found["trained_on"])
        if found["kind"] == "process source":
            return _hyper(found), str(found["trained_on"])
        raise ValueError(f"it is of kind {found['kind']!r}")


@contextmanager
def _reading(data: bytes) -> Iterator[Mapping[str, Any]]:
    """What was encoded; whatever is found wrong with it becomes DataLoss."""
    try:
        found = codec.decode(data)
        if found["version"] != VERSION:
            raise DataLoss(f"a cost model of version {found['version']}, not {VERSION}", hint="fit it again")
        yield found
    except DataLoss:
        raise
    except Exception as problem:  # whatever the two formats' readers find wrong
        raise DataLoss(f"this is no cost model: {problem}", hint="fit it again") from problem


def _process(found: Mapping[str, Any]) -> ProcessFit:
    columns = len(found["names"])
    scaling = Scaling(
        _array(found, "low"), _array(found, "span"), _array(found, "middle"), found["offset"], found["scale"]
    )
    x, y, analytic = _array(found, "x").reshape(-1, columns), _array(found, "y"), found["analytic"]
    return ProcessFit(scaling, _hyper(found), x, y, analytic, _array(found, "trend").reshape(len(y), -1))


def _hyper(found: Mapping[str, Any]) -> Hyperparameters:
    return Hyperparameters(_array(found, "scales"), found["variance"], found["noise"])


def _hyper_data(hyper: Hyperparameters) -> dict[str, Any]:
    return {"scales": hyper.scales.tolist(), "variance": hyper.variance, "noise": hyper.noise}


def _array(found: Mapping[str, Any], name: str) -> np.ndarray:
    return np.array(found[name], np.float64)
