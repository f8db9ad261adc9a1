"""The operator ``softmax``: the host computes it, or a unit beside the memory where there is one (AttAcc)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Parameter, Schedule, Space, Value
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.mapping import Array, Family, Mapped, host_cycles
from fettle.backends.pim.matmul import refresh_parameter
from fettle.backends.pim.program import HOST, SYNC, Builder
from fettle.backends.pim.stream import stream
from fettle.backends.rounding import ceil_div
from fettle.graph.workload import Workload

HOST_SOFTMAX, UNIT_SOFTMAX = "host", "unit"

_PASSES = 2
"""A unit goes over a row twice: maximum and sum of exponentials, then scaling."""


def places(hardware: Hardware) -> tuple[str, ...]:
    """Where a device's softmax can be computed."""
    return (HOST_SOFTMAX, UNIT_SOFTMAX) if hardware.organisation.softmax_lanes else (HOST_SOFTMAX,)


def softmax_cycles(place: str, elements: int, hardware: Hardware) -> int:
    """Cycles the computation itself takes; each channel has a unit of its own."""
    org = hardware.organisation
    if place == UNIT_SOFTMAX:
        return ceil_div(_PASSES * elements, org.softmax_lanes * org.channels)
    return host_cycles(elements, hardware)


def softmax(x: Array) -> Array:
    """Over the last axis, in float32."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


class SoftmaxFamily(Family):
    """``y[r,c] = exp(x[r,c] - max) / Σ``; x and y lie in the banks."""

    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        if workload["act"].kind not in ("bf16", "f16"):
            return "memories hold bf16 or f16"
        org = hardware.organisation
        columns = ceil_div(workload["rows"] * workload["cols"], org.channels * org.lanes)
        return "" if 2 * ceil_div(columns, org.banks * org.columns) < org.rows else "x and y do not fit the banks"

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        return Space((Parameter("place", places(hardware)), refresh_parameter(hardware)))

    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        return {"place": HOST_SOFTMAX, "refresh_slack": 0}

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        elements = workload["rows"] * workload["cols"]
        org = hardware.organisation
        columns = ceil_div(elements, org.channels * org.lanes)
        builder = Builder(org.channels)
        place = stream(builder, hardware, "RD", columns)
        builder.add(SYNC)
        builder.add(HOST, count=softmax_cycles(str(schedule["place"]), elements, hardware))
        stream(builder, hardware, "WR", columns, place)

        def compute(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
            return softmax(inputs[0].astype(np.float32))

        return Mapped(builder.build(), compute, int(schedule["refresh_slack"]))
