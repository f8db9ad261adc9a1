"""The operator ``elementwise``: on units that have the operation, or through the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from fettle.backends.api import Parameter, Schedule, Space, Value
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.gemv import rounded
from fettle.backends.pim.mapping import Array, Family, Mapped, host_cycles
from fettle.backends.pim.matmul import refresh_parameter
from fettle.backends.pim.modes import enter, leave, toggle
from fettle.backends.pim.program import HOST, SYNC, Builder, Program
from fettle.backends.pim.stream import stream
from fettle.backends.rounding import ceil_div
from fettle.graph.workload import Workload

UNITS, THROUGH_HOST = "units", "host"

_OPERATIONS: Mapping[str, Mapping[str, Callable[..., Array]]] = {
    "EWMUL": {"x0*x1": lambda x0, x1: x0 * x1},
    "ALUH": {
        "x0*x1": lambda x0, x1: x0 * x1,
        "x0+x1": lambda x0, x1: x0 + x1,
        "relu(x0)": lambda x0: np.maximum(x0, np.float32(0.0)),
    },
}
"""Command of a unit -> expressions it computes."""

_ARITHMETIC = ("+", "-", "*", "neg", "abs", "relu")
"""What the host computes as fast as the memory delivers operands."""


class ElementwiseFamily(Family):
    """``y = expr(x0, x1, …)``; operands and result lie in the banks."""

    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        if workload["act"].kind not in ("bf16", "f16"):
            return "units take bf16 or f16"
        org = hardware.organisation
        bursts = ceil_div(prod(workload["shape"]), org.channels * org.lanes)
        operands = workload["expr"].arity + 1
        # Near-bank operations keep an operand in a quarter of the banks (or a third of the rows) each.
        if 4 * operands * ceil_div(bursts, org.banks * org.columns) > org.rows:
            return f"operands do not fit {org.rows} rows a bank"
        return ""

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        places = (UNITS, THROUGH_HOST) if self._command(workload, hardware) else (THROUGH_HOST,)
        return Space((Parameter("place", places), refresh_parameter(hardware)))

    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        return {"place": UNITS if self._command(workload, hardware) else THROUGH_HOST, "refresh_slack": 0}

    def _command(self, workload: Workload, hardware: Hardware) -> str:
        """What units compute the expression with; empty if they cannot."""
        for name, expressions in _OPERATIONS.items():
            if name in hardware.preset.commands and workload["expr"].text in expressions:
                return name
        return ""

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        slack = int(schedule["refresh_slack"])
        builder = Builder(hardware.organisation.channels)
        if schedule["place"] == THROUGH_HOST:
            return Mapped(_through_host(builder, workload, hardware), _evaluate(workload), slack)
        command = self._command(workload, hardware)
        operation = _OPERATIONS[command][workload["expr"].text]
        program = _multiply(builder, workload, hardware) if command == "EWMUL" else _alu(builder, workload, hardware)

        def compute(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
            return _execute(program, workload, hardware, command, operation, inputs)

        return Mapped(program, compute, slack)


def _through_host(builder: Builder, workload: Workload, hardware: Hardware) -> Program:
    org, size = hardware.organisation, prod(workload["shape"])
    columns = ceil_div(size, org.channels * org.lanes)
    place = 0
    for _ in range(workload["expr"].arity):
        place = stream(builder, hardware, "RD", columns, place)
    builder.add(SYNC)
    if _functions(workload) > 0:
        builder.add(HOST, count=host_cycles(size, hardware))
    stream(builder, hardware, "WR", columns, place)
    return builder.build()


def _functions(workload: Workload) -> int:
    """How many divisions and functions beyond plain arithmetic the expression has."""
    expression = workload["expr"]
    return int(expression.fold(lambda _: 0, lambda _: 0, lambda name, *parts: sum(parts) + (name not in _ARITHMETIC)))


def _evaluate(workload: Workload) -> Callable[[Sequence[Array], Sequence[Array]], Array]:
    expression = workload["expr"]

    def compute(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
        values, _ = expression.evaluate_with_bound([x.astype(np.float64) for x in inputs])
        return np.asarray(values, np.float32)

    return compute


def _multiply(builder: Builder, workload: Workload, hardware: Hardware) -> Program:
    """In every bank group bank 0 times bank 1 into bank 2, at the same row and column."""
    org = hardware.organisation
    columns = ceil_div(prod(workload["shape"]), org.channels * org.bank_groups * org.lanes)
    builder.add(HOST)  # the register that says how many bank groups take part
    for row in range(ceil_div(columns, org.columns)):
        builder.add("EWMUL", row=row, count=min(org.columns, columns - row * org.columns))
    return builder.build()


def _alu(builder: Builder, workload: Workload, hardware: Hardware) -> Program:
    """Per tile and bank: 8 columns of x0 into registers, 8 columns of x1 combined with them, 8 columns written."""
    org, width = hardware.organisation, hardware.organisation.buffer_columns
    columns = ceil_div(prod(workload["shape"]), org.channels * org.banks * org.lanes)
    tiles = ceil_div(columns, width)
    rows = ceil_div(tiles * width, org.columns)
    enter(builder, org, 1)
    toggle(builder)
    for tile in range(tiles):
        row, column = divmod(tile * width, org.columns)
        for bank in (0, 1):
            for operand in range(workload["expr"].arity):
                builder.add("ALUH", bank=bank, row=operand * rows + row, column=column, count=width)
            builder.add("WRH", bank=bank, row=2 * rows + row, column=column, count=width)
        builder.add("WRH", bank=1, row=2 * rows + row, column=column + width - 1)  # flushes the last result
    toggle(builder)
    leave(builder)
    return builder.build()


def _execute(
    program: Program,
    workload: Workload,
    hardware: Hardware,
    command: str,
    operation: Callable[..., Array],
    inputs: Sequence[Array],
) -> Array:
    """Elements in the order of their addresses: column of a bank, then its lanes, over all channels and banks at once.

    Every column an instruction reaches is read, combined and written once; what no instruction reaches stays NaN.
    """
    org, act = hardware.organisation, workload["act"]
    lockstep = org.channels * (org.bank_groups if command == "EWMUL" else org.units) * org.lanes
    halves = 1 if command == "EWMUL" else 2
    size = prod(workload["shape"])
    columns = ceil_div(size, lockstep * halves)
    tile = 1 if command == "EWMUL" else org.buffer_columns  # columns that are worked on together
    depth = ceil_div(columns, tile) * tile
    images = []
    for values in inputs:
        image = np.zeros((depth * halves, lockstep), np.float32)
        image.reshape(-1)[:size] = values.astype(np.float32).reshape(-1)
        images.append(image.reshape(depth, halves, lockstep))
    result = np.full((depth, halves, lockstep), np.nan, np.float32)
    wanted = command if halves == 1 else "WRH"
    rows = ceil_div(depth, org.columns)
    for number, bank, row, column, count in zip(
        program.operations.tolist(),
        program.banks.tolist(),
        program.rows.tolist(),
        program.columns.tolist(),
        program.counts.tolist(),
        strict=True,
    ):
        if program.names[number] != wanted:
            continue
        first = (row - (2 * rows if halves == 2 else 0)) * org.columns + column
        part = (slice(first, first + count), max(bank, 0))
        result[part] = rounded(operation(*(image[part] for image in images)), act)
    return result.reshape(-1)[:size]
