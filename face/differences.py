"""How far a model's outputs are from those of a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import numpy as np

from fettle.graph.errors import InvalidArgument


@attrs.frozen
class Difference:
    """How far an output is from its reference.

    Attributes:
        max_error: largest absolute difference; infinity if either has a value the other cannot be compared with.
        nrmse: root-mean-square error over the root mean square of the reference.
    """

    max_error: float
    nrmse: float


def compare(outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """Differences of every output of the reference, by name.

    Raises:
        InvalidArgument: an output is missing or has another shape.
    """
    result = {}
    for name, wanted in reference.items():
        if name not in outputs or outputs[name].shape != wanted.shape:
            found = outputs[name].shape if name in outputs else "missing"
            raise InvalidArgument(f"output {name!r} is {found}, expected {wanted.shape}")
        result[name] = _difference(outputs[name], wanted)
    return result


def _difference(output: np.ndarray, reference: np.ndarray) -> Difference:
    expected = reference.astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities do not differ
        error = np.where(output == reference, 0.0, np.abs(output.astype(np.float64) - expected))
    if not np.isfinite(error).all():
        return Difference(math.inf, math.inf)
    rms, scale = _root_mean_square(error), _root_mean_square(expected[np.isfinite(expected)])
    relative = rms / scale if scale > 0.0 else math.inf
    return Difference(float(error.max(initial=0.0)), relative if rms > 0.0 else 0.0)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
