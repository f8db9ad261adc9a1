"""Length buckets (FlightLLM, 2401.03868): the fewest schedules that serve all lengths within a stated loss."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Backend, Device, Schedule
from fettle.backends.replay.backend import ReplayBackend
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.solver import cp_solver
from fettle.graph.workload import Workload
from fettle.search.lengths import times


@attrs.frozen
class Bucket:
    """A schedule and the lengths it serves; ``loss`` is its worst there: time / best time - 1."""

    schedule: Schedule
    lengths: tuple[int, ...]
    loss: float


def cover(seconds: NDArray[np.float64], loss: float) -> tuple[list[int], list[int]]:
    """The fewest rows such that each column has one within ``1 + loss`` of its least; exact, by CP-SAT.

    Args:
        seconds: ``[schedules, lengths]``; infinity where a schedule is not valid.

    Returns:
        Chosen rows, and for each column the fastest of them.
    """
    from ortools.sat.python import cp_model

    good = seconds <= (1.0 + loss) * seconds.min(axis=0)
    model = cp_model.CpModel()
    used = [model.new_bool_var("") for _ in range(len(seconds))]
    for column in range(seconds.shape[1]):
        model.add_bool_or([used[row] for row in np.flatnonzero(good[:, column])])
    model.minimize(sum(used))
    solver = cp_solver()
    solver.solve(model)
    rows = [row for row, one in enumerate(used) if solver.value(one)]
    return rows, [rows[int(i)] for i in np.argmin(seconds[rows], axis=0)]


def length_buckets(
    backend: Backend,
    device: Device,
    workload: Workload,
    field: str,
    lengths: Sequence[int],
    *,
    loss: float,
    samples: int = 64,
    seed: int = 0,
) -> list[Bucket]:
    """Buckets of a workload whose ``field`` (``kv``, ``m``) takes many values.

    "Best" is the best of the schedules tried, see :func:`fettle.search.lengths.times`; the set is minimal among them.

    Raises:
        InvalidArgument: no lengths, a negative loss, or no such field.
        Unsupported: the device does not run the workload at a length, or it replays a recording of one workload; or no
            schedule gave a right result at a length.
    """
    if not lengths or loss < 0.0:
        raise InvalidArgument("length buckets need lengths and a loss that is not negative")
    if isinstance(backend, ReplayBackend):
        raise Unsupported(
            "a recording has the times of one workload, and none at other lengths",
            hint="buckets need a device that is simulated (npu, pim) or measured (cpu)",
        )
    resized = _resized(workload, field, lengths)
    for one in resized:
        if not (support := backend.supports(one, device)):
            raise Unsupported(f"{device} cannot run {one}: {support.reason}")
    found = times(backend, device, resized, samples, seed)
    seconds = found.seconds
    for one, column in zip(resized, seconds.T, strict=True):
        if not np.isfinite(column).any():
            raise Unsupported(f"no schedule tried gave a right result for {one} on {device}")
    rows, served = cover(seconds, loss)
    buckets = []
    for row in rows:
        columns = [c for c, chosen in enumerate(served) if chosen == row]
        worst = max((seconds[row, c] / seconds[:, c].min() - 1.0 for c in columns), default=0.0)
        buckets.append(Bucket(found.schedules[row], tuple(lengths[c] for c in columns), float(worst)))
    return sorted((b for b in buckets if b.lengths), key=lambda b: b.lengths)


def _resized(workload: Workload, field: str, lengths: Sequence[int]) -> list[Workload]:
    """The workload with each length in its field. Raises InvalidArgument if it has no such field."""
    if field not in workload.values:
        raise InvalidArgument(
            f"{workload.operator} has no field {field!r}", hint=f"fields: {' '.join(workload.values)}"
        )
    others = [(name, value) for name, value in workload.fields if name != field]
    return [Workload(workload.operator, (*others, (field, str(length)))) for length in lengths]
