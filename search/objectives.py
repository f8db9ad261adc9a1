"""What a trial is worth in each objective of a job, and which trials no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Record
from fettle.graph.errors import Unsupported
from fettle.store.jobs import Tradeoff

Array = NDArray[np.float64]

_SMALLEST = 1e-30
"""Of an objective that may be 0, before its logarithm is taken."""


def values(record: Record, objectives: Sequence[str]) -> tuple[float, ...]:
    """A valid trial's figures: seconds, joules, bytes.

    Raises:
        Unsupported: the device did not tell one of them.
    """
    known = _figures(record)
    found = []
    for name in objectives:
        value = known[name]
        if value is None:
            raise Unsupported(
                f"{record.candidate.device} does not tell the {name} of a trial",
                hint=f"leave {name} out of the objectives",
            )
        found.append(float(value))
    return tuple(found)


def logarithms(record: Record, objectives: Sequence[str]) -> tuple[float, ...]:
    """Natural logarithms of :func:`values`: what is searched for. Raises Unsupported as that."""
    return tuple(math.log(max(value, _SMALLEST)) for value in values(record, objectives))


def are_told(record: Record, objectives: Sequence[str]) -> bool:
    """Whether a valid trial tells all of them."""
    known = _figures(record)
    return all(known[name] is not None for name in objectives)


def unbeaten(points: Array) -> list[int]:
    """Rows of [points, objectives] that no other row beats (is no worse in all columns and better in one), by their
    columns in ascending order; of equal rows the first."""
    kept: list[int] = []
    front = np.empty((0, points.shape[1]))
    for row in np.lexsort(points.T[::-1]).tolist():  # stable; who comes later beats nobody before
        if not (front <= points[row]).all(axis=1).any():
            kept.append(row)
            front = points[kept]
    return kept


def front(records: Sequence[Record], objectives: Sequence[str]) -> tuple[Tradeoff, ...]:
    """The Pareto front of valid trials, fastest first. Raises Unsupported as :func:`values`."""
    if not records:
        return ()
    figures = [values(record, objectives) for record in records]
    found = []
    for row in unbeaten(np.array(figures)):
        named = dict(zip(objectives, figures[row], strict=True))
        size = int(named["size"]) if "size" in named else None
        found.append(Tradeoff(records[row].candidate.schedule, named["latency"], named.get("energy"), size))
    return tuple(found)


def _figures(record: Record) -> dict[str, float | None]:
    """By objective; None: not told."""
    return {"latency": record.measurement.time, "energy": record.measurement.energy, "size": record.artifact_bytes}
