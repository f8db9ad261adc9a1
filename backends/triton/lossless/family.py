"""The family of decoders of losslessly coded weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Parameter, Schedule, Space, Support
from fettle.backends.triton.family import Family
from fettle.backends.triton.lossless.coding import LENGTH, encode
from fettle.backends.triton.plan import Argument, Launch, Plan, Work
from fettle.backends.triton.targets import Target
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_MOST_ELEMENTS = 1 << 28
"""Whose codes, at most 12 bits each, 32-bit positions reach."""

_EXPECTED_BITS = 2.7
"""Of the exponent of normally distributed weights, coded."""


class Lossless(Family):
    """One program decodes a group of elements, a lane of it a stretch of codes."""

    name: ClassVar[str] = "lossless"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator != "lossless":
            return Support.no("only lossless")
        if workload.result.size > _MOST_ELEMENTS:
            return Support.no(f"more than {_MOST_ELEMENTS} elements")
        return Support.yes()

    def space(self, workload: Workload, target: Target) -> Space:
        return Space(
            (
                Parameter.powers_of_two("lanes", 64, 1024),
                Parameter("chunk", (16, 32, 64, 128, 256)),
                Parameter("warps", (1, 2, 4, 8)),
            ),
            version="triton-lossless-1",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        return Schedule.of(lanes=128, chunk=64, warps=4)

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        count, lanes, chunk = workload.result.size, schedule["lanes"], schedule["chunk"]
        groups = -(-count // (lanes * chunk))
        launch = Launch(
            "lossless:decode",
            (
                Argument("stream_ptr", "*u32", "packed:0"),
                Argument("start_ptr", "*u32", "packed:1"),
                Argument("table_ptr", "*u16", "packed:2"),
                Argument("rest_ptr", "*u8", "packed:3"),
                Argument("out_ptr", "*bf16", "out"),
            ),
            (("COUNT", count), ("LANES", lanes), ("CHUNK", chunk), ("LENGTH", LENGTH)),
            (groups, 1, 1),
            Work(bytes=count * (3 + _EXPECTED_BITS / 8) + 4.0 * groups * lanes, trips=chunk),
            schedule["warps"],
            stages=1,
        )
        return Plan((launch,), weight_layout=self.weight_layout(workload, schedule))

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return f"triton-lossless-{schedule['lanes']}x{schedule['chunk']}"

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        (weight,) = constants
        bits = np.ascontiguousarray(weight).view(np.uint16).reshape(-1)
        coded = encode(bits, schedule["lanes"], schedule["chunk"])
        return coded.stream, coded.starts, coded.table, coded.rest
