"""The family of dense products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Support
from fettle.backends.spaces import is_valid
from fettle.backends.triton.epilogue import epilogue_arguments
from fettle.backends.triton.family import Family
from fettle.backends.triton.finish import finish
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.targets import MOST_LAYERS, Target
from fettle.graph.epilogues import Epilogue
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_MOST_OFFSETS = 1 << 31

_UNITS = {"f16": "half", "bf16": "half", "i8": "int8", "f8e4m3": "fp8"}
"""Formats of activations, and the tensor units that multiply them."""


class Dense(Family):
    """f16, bf16, fp8 and int8, batches, K split in parts, or a fused epilogue.

    The right-hand side is constant or, unless it is fp8, dynamic. Of bytes, tensor units of warpgroups want neighbours
    in K beside each other, so that constant ones are packed ``[batch, N, K]``.
    """

    name: ClassVar[str] = "dense"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator != "matmul":
            return Support.no("only matmul")
        act, right = workload["act"].kind, workload["rhs"] or workload["weight"]
        if act not in _UNITS or right.is_quantised or act not in (right.kind, "f8e4m3"):
            return Support.no("both operands f16, bf16, i8 or plain fp8")
        if workload["zero"] or (act == "i8" and workload["out"].kind != "i32"):
            return Support.no("sums of products of i8 only, without a zero point or an epilogue")
        if act == "f8e4m3" and not target.has_fp8:
            return Support.no(f"{target.part} does not multiply OCP's fp8")
        if workload["invariant"]:
            return Support.no("no batch-invariant schedules")
        m, n, k = (workload[name] for name in ("m", "n", "k"))
        if max(m * k, n * k, m * n) >= _MOST_OFFSETS:
            return Support.no("a matrix of 2^31 elements or more")
        if workload["batch"] > MOST_LAYERS:
            return Support.no(f"more than {MOST_LAYERS} batches")
        return Support.yes()

    def space(self, workload: Workload, target: Target) -> Space:
        m, n, k = (workload[name] for name in ("m", "n", "k"))
        size = workload["act"].bits // 8
        steps = (16, 32, 64, 128) if size == 2 else (32, 64, 128, 256)
        splits = (1,) if workload["epilogue"] is not None else (1, 2, 4, 8)  # parts of a sum have no epilogue
        return Space(
            (
                Parameter("block_m", tuple(b for b in (16, 32, 64, 128, 256) if b < 2 * m or b == 16)),
                Parameter("block_n", tuple(b for b in (16, 32, 64, 128, 256) if b < 2 * n or b == 16)),
                Parameter("block_k", tuple(b for b in steps if b < 2 * k or b == steps[0])),
                Parameter("split", tuple(s for s in splits if s * 64 <= k or s == 1)),
                Parameter("band", (1, 4, 8)),
                Parameter("warps", (2, 4, 8)),
                Parameter("stages", (2, 3, 4, 5)),
            ),
            (
                Constraint("block_m * block_n <= 4096 * warps", "an accumulator of at most 128 registers a thread"),
                Constraint(f"split * block_k <= {k} or split == 1", "every part of K has a block"),
                Constraint(
                    f"stages * block_k * (block_m + block_n) * {size} <= {target.shared_block}",
                    "the pipeline fits shared memory",
                ),
            ),
            version="triton-dense-1",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        choices = space.choices
        block_m, widest = min(128, choices["block_m"][-1]), choices["block_n"][-1]
        size = workload["act"].bits // 8
        for most_n, k_bytes, stages in ((256, 128, 3), (128, 128, 3), (128, 64, 3), (128, 64, 2), (128, 32, 2)):
            block_n = min(most_n, widest)
            tiles = workload["batch"] * -(-workload["m"] // block_m) * -(-workload["n"] // block_n)
            if block_n == 256 and tiles < 2 * target.multiprocessors:
                continue  # twice as many programs are worth more than fewer reads
            split = max(s for s in choices["split"] if s == 1 or s * tiles <= target.multiprocessors)
            schedule = Schedule.of(
                block_m=block_m, block_n=block_n, block_k=min(k_bytes // size, choices["block_k"][-1]), split=split,
                band=8, warps=8 if block_m * block_n >= 4096 * 4 else 4, stages=stages,
            )  # fmt: skip
            if is_valid(space, schedule):
                return schedule
        raise Unsupported(f"no legal tile of {workload} fits {target.part}")

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        batch, m, n, k = (workload[name] for name in ("batch", "m", "n", "k"))
        block_m, block_n, block_k, split = (schedule[x] for x in ("block_m", "block_n", "block_k", "split"))
        act, right = workload["act"].kind, workload["rhs"] or workload["weight"]
        part = "i32" if act == "i8" else "fp32"
        whole = split == 1
        tiles_m, tiles_n = -(-m // block_m), -(-n // block_n)
        result = workload["out"].bits // 8 if whole else 4 * split
        out = ELEMENT[workload["out"].kind]
        epilogue: Epilogue | None = workload["epilogue"]
        constant = workload["rhs"] is None
        w_k, w_n = (1, k) if _is_transposed(workload) else (n, 1)
        product = Launch(
            "dense:matmul" if epilogue is None else f"fused:{epilogue}",
            (
                Argument("x_ptr", f"*{ELEMENT[act]}", "input:0"),
                Argument("w_ptr", f"*{ELEMENT[right.kind]}", "packed:0" if constant else "input:1"),
                *epilogue_arguments(workload, *((1, 1) if constant else (2, 0))),
                Argument("out_ptr", f"*{out}", "out") if whole else Argument("out_ptr", f"*{part}", "scratch:parts"),
                Argument("M", "i32", value=m),
            ),
            (
                ("N", n),
                ("K", k),
                ("W_BATCH", n * k),
                ("W_K", w_k),
                ("W_N", w_n),
                ("BM", block_m),
                ("BN", block_n),
                ("BK", block_k),
                ("PARTS", split),
                ("BAND", schedule["band"]),
            ),
            (tiles_m * tiles_n, split, batch),
            Work(
                bytes=float(sum(tensor.nbytes for tensor in workload.operands) + batch * m * n * result),
                flops=2.0 * batch * tiles_m * block_m * tiles_n * block_n * k,
                unit=_UNITS[act],
                trips=-(-k // (block_k * split)),
                flying=True,
                left_shared=1.0,
            ),
            schedule["warps"],
            schedule["stages"],
        )
        if whole:
            return Plan((product,))
        count = batch * m * n
        return Plan((product, finish(count, split, out, part)), (Scratch("parts", part, split * count),))

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """(the weight, if it is constant, the epilogue's rows)."""
        arrays = super().pack(workload, schedule, constants)
        if not _is_transposed(workload):
            return arrays
        weight, *rows = arrays
        return np.ascontiguousarray(np.swapaxes(weight, -1, -2)), *rows


def _is_transposed(workload: Workload) -> bool:
    """Whether neighbours in K lie beside each other in the right-hand side."""
    return workload["rhs"] is None and workload["act"].bits == 8
