"""A recording of a real device as trials the cost model can be judged on: analysed anew, without building anything."""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Device, Schedule
from fettle.backends.registry import get_backend
from fettle.backends.replay.recording import Recording
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.features import Featurizer
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class AnalysedTrials:
    """Valid trials of one workload on one device as the cost model sees them.

    Attributes:
        names: of the columns.
        features: [trials, names]; NaN is missing.
        log_times: [trials], log(seconds).
    """

    workload: Workload
    device: Device
    names: tuple[str, ...]
    features: Array
    log_times: Array


def analysed(recording: Recording) -> AnalysedTrials:
    """The valid rows that are points of the present space.

    A parameter that is newer than the recording has the default schedule's value: what kernels did before they had it.

    Raises:
        InvalidArgument: the file does not say what was recorded and where, or no row is such a point.
        InvalidWorkload, NotFound, Unsupported: it names a workload or a backend that this version lacks.
    """
    if not recording.workload or recording.device is None:
        raise InvalidArgument(
            "the recording does not say its workload and device",
            hint="those of fettle costmodel record and fettle jobs export do",
        )
    workload, device = Workload.parse(recording.workload), recording.device
    backend = get_backend(device.backend)
    points = enumerate_space(backend.space(workload, device))
    default = backend.default(workload, device)
    recorded = {parameter.name for parameter in recording.parameters}
    newer = {name: value for name, value in default.as_dict().items() if name not in recorded}
    indices, times = [], []
    for number, row in enumerate(recording.rows):
        index = points.index(Schedule.of(**recording.schedule(number).as_dict(), **newer))
        if row.objective is not None and index is not None:
            indices.append(index)
            times.append(row.objective * recording.scale)
    if not times:
        raise InvalidArgument("no valid row of the recording is a point of the present space", hint="record it again")
    featurizer = Featurizer(backend, workload, device, points)
    log_times = np.array([math.log(time) for time in times])
    return AnalysedTrials(workload, device, featurizer.names, featurizer.matrix(indices), log_times)
