"""The family of dense products."""

from __future__ import annotations

from typing import ClassVar

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Support
from fettle.backends.spaces import is_valid
from fettle.backends.triton.epilogue import epilogue_arguments, epilogue_bytes
from fettle.backends.triton.family import Family
from fettle.backends.triton.finish import finish
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.targets import MOST_LAYERS, Target
from fettle.graph.epilogues import Epilogue
from fettle.graph.workload import Workload

_MOST_OFFSETS = 1 << 31


class Dense(Family):
    """f16 and bf16, constant or dynamic right-hand side, batches, K split in parts, or a fused epilogue."""

    name: ClassVar[str] = "dense"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator != "matmul":
            return Support.no("only matmul")
        right = workload["rhs"] or workload["weight"]
        if workload["act"].kind not in ("f16", "bf16") or right != workload["act"]:
            return Support.no("both operands f16 or both bf16")
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
        splits = (1,) if workload["epilogue"] is not None else (1, 2, 4, 8)  # parts of a sum have no epilogue
        return Space(
            (
                Parameter("block_m", tuple(b for b in (16, 32, 64, 128, 256) if b < 2 * m or b == 16)),
                Parameter("block_n", tuple(b for b in (16, 32, 64, 128, 256) if b < 2 * n or b == 16)),
                Parameter("block_k", tuple(b for b in (16, 32, 64, 128) if b < 2 * k or b == 16)),
                Parameter("split", tuple(s for s in splits if s * 64 <= k or s == 1)),
                Parameter("band", (1, 4, 8)),
                Parameter("warps", (2, 4, 8)),
                Parameter("stages", (2, 3, 4, 5)),
            ),
            (
                Constraint("block_m * block_n <= 4096 * warps", "an accumulator of at most 128 registers a thread"),
                Constraint(f"split * block_k <= {k} or split == 1", "every part of K has a block"),
                Constraint(
                    f"stages * block_k * (block_m + block_n) * 2 <= {target.shared_block}",
                    "the pipeline fits shared memory",
                ),
            ),
            version="triton-dense-1",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        choices = {p.name: [int(c) for c in p.choices] for p in space.parameters}
        block_m, wide = min(128, choices["block_m"][-1]), choices["block_n"][-1]
        for most_n, block_k, stages in ((256, 64, 3), (128, 64, 3), (128, 32, 3), (128, 32, 2), (128, 16, 2)):
            block_n = min(most_n, wide)
            tiles = workload["batch"] * -(-workload["m"] // block_m) * -(-workload["n"] // block_n)
            if block_n == 256 and tiles < 2 * target.multiprocessors:
                continue  # twice as many programs are worth more than fewer reads
            split = max(s for s in choices["split"] if s == 1 or s * tiles <= target.multiprocessors)
            schedule = Schedule.of(
                block_m=block_m, block_n=block_n, block_k=min(block_k, choices["block_k"][-1]), split=split, band=8,
                warps=8 if block_m * block_n > 4096 * 4 - 1 else 4, stages=stages,
            )  # fmt: skip
            if is_valid(space, schedule):
                return schedule
        return schedule

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        batch, m, n, k = (workload[name] for name in ("batch", "m", "n", "k"))
        block_m, block_n, block_k, split = (schedule[x] for x in ("block_m", "block_n", "block_k", "split"))
        kind = f"*{ELEMENT[workload['act'].kind]}"
        whole = split == 1
        tiles_m, tiles_n = -(-m // block_m), -(-n // block_n)
        traffic = epilogue_bytes(workload)
        out = f"*{ELEMENT[workload['out'].kind]}"
        epilogue: Epilogue | None = workload["epilogue"]
        constant = workload["rhs"] is None
        product = Launch(
            "dense:matmul" if epilogue is None else f"fused:{epilogue}",
            (
                Argument("x_ptr", kind, "input:0"),
                Argument("w_ptr", kind, "packed:0" if constant else "input:1"),
                *epilogue_arguments(workload, *((1, 1) if constant else (2, 0))),
                Argument("out_ptr", out, "out") if whole else Argument("out_ptr", "*fp32", "scratch:parts"),
                Argument("M", "i32", value=m),
            ),
            (
                ("N", n),
                ("K", k),
                ("W_BATCH", n * k),
                ("BM", block_m),
                ("BN", block_n),
                ("BK", block_k),
                ("PARTS", split),
                ("BAND", schedule["band"]),
            ),
            (tiles_m * tiles_n, split, batch),
            Work(
                bytes=2.0 * batch * (m * k + n * k) + batch * m * n * (2 if whole else 4 * split) + traffic,
                flops=2.0 * batch * tiles_m * block_m * tiles_n * block_n * k,
                unit="half",
                trips=-(-k // (block_k * split)),
            ),
            schedule["warps"],
            schedule["stages"],
        )
        if whole:
            return Plan((product,))
        count = batch * m * n
        return Plan((product, finish(count, split, out)), (Scratch("parts", "fp32", split * count),))
