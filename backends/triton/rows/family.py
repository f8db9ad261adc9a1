"""The family of operators over rows."""

from __future__ import annotations

from typing import ClassVar

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Support, Value
from fettle.backends.triton.family import Family
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Work
from fettle.backends.triton.targets import Target
from fettle.graph.workload import Workload

_OPERATORS = ("softmax", "rmsnorm", "layernorm", "elementwise")
_LARGEST_BLOCK = 32768
_MOST_ELEMENTS = 128
"""Of a tile, per thread: what its registers hold."""

_CHAIN_BLOCK = 1024
"""Elements of a chain that a program of the default makes."""

_PASSES = {"softmax": 2, "rmsnorm": 2, "layernorm": 3}
"""How often a row is read that is longer than a block."""


class Rows(Family):
    """One program makes some rows (elementwise: one block of elements)."""

    name: ClassVar[str] = "rows"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator not in _OPERATORS:
            return Support.no(f"only {' '.join(_OPERATORS)}")
        if not (workload["act"].is_float and workload.result.format.is_float):
            return Support.no("operands and results of floats, not of codes")
        return Support.yes()

    def space(self, workload: Workload, target: Target) -> Space:
        flat = workload.operator == "elementwise"
        columns = workload.result.size if flat else workload["cols"]
        rows = 1 if flat else workload["rows"]
        most = max(64, min(_LARGEST_BLOCK, 1 << (columns - 1).bit_length()))
        return Space(
            (
                Parameter.powers_of_two("block", max(64, min(256, most)), most),
                Parameter("rows", tuple(r for r in (1, 2, 4, 8) if r == 1 or r < 2 * rows)),
                Parameter("warps", (1, 2, 4, 8, 16, 32)),
                Parameter("stages", (1, 2, 3)),
            ),
            (
                Constraint(f"block * rows <= {_MOST_ELEMENTS * target.warp} * warps", "the tile fits in registers"),
                Constraint(f"block * rows >= {target.warp} * warps", "every thread has an element"),
                Constraint(f"stages == 1 or block < {columns}", "only a loop is pipelined"),
            ),
            version="triton-rows-2",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        largest = space.choices["block"][-1]
        block = min(largest, _CHAIN_BLOCK) if workload.operator == "elementwise" else largest
        needed = -(-block // (_MOST_ELEMENTS // 2 * target.warp))  # half, so that more warps wait beside each other
        warps = min(w for w in space.choices["warps"] if w >= max(needed, min(4, block // target.warp)))
        return Schedule.of(block=block, rows=1, warps=warps, stages=1)

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        launch = _chain if workload.operator == "elementwise" else _normalisation
        return Plan((launch(workload, schedule),))


def _chain(workload: Workload, schedule: Schedule) -> Launch:
    """One block of elements a program, in one dimension."""
    block, count = schedule["block"] * schedule["rows"], workload.result.size
    return Launch(
        f"elementwise:{workload['expr']}",
        (*_operands(workload), _result(workload)),
        (("BLOCK", block), ("COUNT", count)),
        (-(-count // block), 1, 1),
        Work(bytes=_traffic(workload), trips=1),
        schedule["warps"],
        schedule["stages"],
    )


def _normalisation(workload: Workload, schedule: Schedule) -> Launch:
    """Softmax or a norm of some rows a program, in passes over blocks where a row is longer than one."""
    constants: dict[str, Value] = {"BLOCK": schedule["block"], "COLS": workload["cols"], "ROWS": schedule["rows"]}
    arguments = _operands(workload)
    template = "rows:softmax"
    if workload.operator != "softmax":
        template = "rows:norm"
        constants |= {"CENTRED": workload.operator == "layernorm", "EPS": workload["eps"]}
    if workload.operator == "rmsnorm":  # the kernel's constants keep it from reading a bias
        arguments.append(Argument("bias_ptr", _pointer(workload), "packed:0"))
    traffic, trips = _traffic(workload), -(-workload["cols"] // schedule["block"])
    if trips > 1:
        traffic += (_PASSES[workload.operator] - 1) * workload.operands[0].nbytes
    return Launch(
        template,
        (*arguments, _result(workload), Argument("M", "i32", value=workload["rows"])),
        tuple(constants.items()),
        (-(-workload["rows"] // schedule["rows"]), 1, 1),
        Work(bytes=traffic, trips=trips),
        schedule["warps"],
        schedule["stages"],
    )


def _operands(workload: Workload) -> list[Argument]:
    kind = _pointer(workload)
    inputs = [t.name for t in workload.operands if not t.constant]
    packed = [t.name for t in workload.operands if t.constant]
    return [
        *(Argument(f"{name}_ptr", kind, f"input:{i}") for i, name in enumerate(inputs)),
        *(Argument(f"{name}_ptr", kind, f"packed:{i}") for i, name in enumerate(packed)),
    ]


def _result(workload: Workload) -> Argument:
    return Argument("out_ptr", _pointer(workload), "out")


def _pointer(workload: Workload) -> str:
    return f"*{ELEMENT[workload['act'].kind]}"


def _traffic(workload: Workload) -> float:
    """Bytes of everything once."""
    return float(sum(tensor.nbytes for tensor in (*workload.operands, workload.result)))
