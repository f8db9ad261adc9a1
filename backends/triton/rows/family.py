"""The family of operators over rows."""

from __future__ import annotations

from typing import ClassVar

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Support, Value
from fettle.backends.triton.family import Family
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Work
from fettle.backends.triton.targets import Target
from fettle.graph.workload import Workload

_OPERATORS = ("softmax", "rmsnorm", "layernorm", "elementwise")
_LARGEST_BLOCK = 16384
_MOST_ELEMENTS = 128
"""Of a tile, per thread: what its registers hold."""


class Rows(Family):
    """One program makes some rows (elementwise: one block of elements)."""

    name: ClassVar[str] = "rows"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator not in _OPERATORS:
            return Support.no(f"only {' '.join(_OPERATORS)}")
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
                Parameter("warps", (1, 2, 4, 8, 16)),
                Parameter("stages", (1, 2, 3)),
            ),
            (
                Constraint(f"block * rows <= {_MOST_ELEMENTS * target.warp} * warps", "the tile fits in registers"),
                Constraint(f"block * rows >= {target.warp} * warps", "every thread has an element"),
                Constraint(f"stages == 1 or block < {columns}", "only a loop is pipelined"),
            ),
            version="triton-rows-1",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        blocks = next(p.choices for p in space.parameters if p.name == "block")
        block = int(blocks[-1]) if workload.operator != "elementwise" else min(int(blocks[-1]), 1024)
        needed = -(-block // (_MOST_ELEMENTS * target.warp))
        warps = min(w for w in (1, 2, 4, 8, 16) if w >= max(needed, min(4, block // target.warp)))
        return Schedule.of(block=block, rows=1, warps=warps, stages=1)

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        block, rows = schedule["block"], schedule["rows"]
        kind = f"*{ELEMENT[workload['act'].kind]}"
        traffic = float(sum(tensor.nbytes for tensor in (*workload.operands, workload.result)))
        inputs = [t.name for t in workload.operands if not t.constant]
        packed = [t.name for t in workload.operands if t.constant]
        arguments = [Argument(f"{name}_ptr", kind, f"input:{i}") for i, name in enumerate(inputs)]
        arguments += [Argument(f"{name}_ptr", kind, f"packed:{i}") for i, name in enumerate(packed)]
        constants: dict[str, Value] = {"BLOCK": block}
        if workload.operator == "elementwise":
            template = f"elementwise:{workload['expr']}"
            constants["COUNT"] = workload.result.size
            grid, trips = -(-workload.result.size // (block * rows)), 1
            constants["BLOCK"] = block * rows
        else:
            template = "rows:softmax" if workload.operator == "softmax" else "rows:norm"
            constants |= {"COLS": workload["cols"], "ROWS": rows}
            grid, trips = -(-workload["rows"] // rows), -(-workload["cols"] // block)
        if workload.operator in ("rmsnorm", "layernorm"):
            centred = workload.operator == "layernorm"
            constants |= {"CENTRED": centred, "EPS": workload["eps"]}
            if not centred:  # the kernel's constants keep it from reading a bias
                arguments.append(Argument("bias_ptr", kind, "packed:0"))
        if trips > 1:  # the row is read again in every pass
            passes = {"softmax": 2, "rmsnorm": 2, "layernorm": 3}[workload.operator]
            traffic += (passes - 1) * workload.operands[0].nbytes
        arguments.append(Argument("out_ptr", kind, "out"))
        if workload.operator != "elementwise":
            arguments.append(Argument("M", "i32", value=workload["rows"]))
        work = Work(bytes=traffic, trips=trips)
        launch = Launch(template, tuple(arguments), tuple(constants.items()), (grid, 1, 1), work,
                        schedule["warps"], schedule["stages"])  # fmt: skip
        return Plan((launch,))
