"""The family of attention kernels."""

from __future__ import annotations

import math
from typing import ClassVar

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Support
from fettle.backends.spaces import is_valid
from fettle.backends.triton.family import Family
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.targets import MOST_LAYERS, Target
from fettle.graph.errors import Unsupported
from fettle.graph.patterns import KINDS, Pattern
from fettle.graph.workload import Workload

_LARGEST_DIM = 256
_LARGEST_DEFAULT = 64
"""Rows of a default tile: two programs beside each other overlap one's products with the other's exponentials."""
_PATTERNS = {kind: number for number, kind in enumerate(KINDS, 1)}


class Attention(Family):
    """Tiles of queries and heads that share keys; the keys in one part (prefill) or several (decode)."""

    name: ClassVar[str] = "attention"

    def supports(self, workload: Workload, target: Target) -> Support:
        if workload.operator != "attention":
            return Support.no("only attention")
        act, cache = workload["act"].kind, workload["kvcache"]
        if act not in ("f16", "bf16"):
            return Support.no("activations are f16 or bf16")
        if not cache.is_quantised and cache.kind != act:
            return Support.no("a cache is of the activations' format, or quantised")
        if workload["dim"] > _LARGEST_DIM:
            return Support.no(f"heads of more than {_LARGEST_DIM} elements")
        if workload["batch"] * workload["kv_heads"] > MOST_LAYERS:
            return Support.no(f"more than {MOST_LAYERS} heads of all batches")
        return Support.yes()

    def space(self, workload: Workload, target: Target) -> Space:
        rows, kv, width = _rows(workload), workload["kv"], _width(workload)
        return Space(
            (
                Parameter("block_m", tuple(b for b in (16, 32, 64, 128) if b < 2 * rows or b == 16)),
                Parameter("block_n", tuple(b for b in (32, 64, 128) if b < 2 * kv or b == 32)),
                Parameter("split", tuple(s for s in (1, 2, 4, 8, 16, 32) if s == 1 or s * 64 <= kv)),
                Parameter("warps", (2, 4, 8)),
                Parameter("stages", (1, 2, 3)),
            ),
            (
                Constraint(f"block_m * ({width} + block_n) <= 6144 * warps", "accumulator and logits fit in registers"),
                Constraint(
                    f"(block_m + 2 * stages * block_n) * {2 * width} <= {target.shared_block}",
                    "queries and the pipeline fit shared memory",
                ),
                Constraint(f"split == 1 or split * block_n <= {kv}", "every part has a key"),
            ),
            version="triton-attention-1",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        choices = {p.name: [int(c) for c in p.choices] for p in space.parameters}
        for block_m in sorted((b for b in choices["block_m"] if b <= _LARGEST_DEFAULT), reverse=True):
            tiles = -(-_rows(workload) // block_m) * workload["batch"] * workload["kv_heads"]
            split = max(s for s in choices["split"] if s == 1 or s * tiles <= 2 * target.multiprocessors)
            for block_n, stages in ((64, 3), (64, 2), (32, 2), (32, 1)):
                schedule = Schedule.of(block_m=block_m, block_n=block_n, split=split, stages=stages, warps=4)
                if is_valid(space, schedule):
                    return schedule
        raise Unsupported(f"no legal tile of {workload} fits {target.part}")

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        batch, heads, kv_heads, queries, kv, dim = (
            workload[name] for name in ("batch", "heads", "kv_heads", "q", "kv", "dim")
        )
        cache, pattern = workload["kvcache"], workload["pattern"]
        parts, block_m, block_n, width = schedule["split"], schedule["block_m"], schedule["block_n"], _width(workload)
        kind, rows = f"*{ELEMENT[workload['act'].kind]}", batch * heads * queries
        tiles = -(-_rows(workload) // block_m)
        names = {"q", "k", "v"} | ({"k_scale", "k_zero", "v_scale", "v_zero"} if cache.is_quantised else set())
        places = {t.name: f"input:{i}" for i, t in enumerate(workload.operands)}
        arguments = []
        for name in ("q", "k", "k_scale", "k_zero", "v", "v_scale", "v_zero"):
            if name == "q" or (name in ("k", "v") and not cache.is_quantised):
                arguments.append(Argument(f"{name}_ptr", kind, places[name]))
            elif name in names:
                arguments.append(Argument(f"{name}_ptr", "*u8" if name in ("k", "v") else "*fp32", places[name]))
            else:  # the kernel's constants keep it from following these
                arguments.append(Argument(f"{name}_ptr", kind, places["q"]))
        whole = parts == 1
        arguments.append(Argument("out_ptr", kind, "out") if whole else Argument("out_ptr", "*fp32", "scratch:parts"))
        arguments.append(
            Argument("state_ptr", kind, "out") if whole else Argument("state_ptr", "*fp32", "scratch:state")
        )
        traffic = float(sum(tensor.nbytes for tensor in (*workload.operands, workload.result)))
        launch = Launch(
            "attention:attention",
            tuple(arguments),
            (
                ("HEADS", heads),
                ("KV_HEADS", kv_heads),
                ("Q", queries),
                ("KV", kv),
                ("DIM", dim),
                ("D", width),
                ("BITS", cache.bits if cache.is_quantised else 16),
                ("GROUP", cache.group or 1),
                ("CAUSAL", bool(workload["causal"])),
                *_pattern(pattern),
                ("SCALE", 1.0 / (math.sqrt(dim) * math.log(2.0))),
                ("BM", block_m),
                ("BN", block_n),
                ("PARTS", parts),
            ),
            (tiles, parts, batch * kv_heads),
            Work(
                bytes=traffic + (0 if whole else 4.0 * parts * rows * (dim + 2)),
                flops=float(workload.flops),
                unit="half",
                trips=max(1.0, _visible(workload) * kv / (block_n * parts)),
            ),
            schedule["warps"],
            schedule["stages"],
        )
        if whole:
            return Plan((launch,))
        combine = Launch(
            "attention:combine",
            (
                Argument("part_ptr", "*fp32", "scratch:parts"),
                Argument("state_ptr", "*fp32", "scratch:state"),
                Argument("out_ptr", kind, "out"),
            ),
            (("ROWS", rows), ("DIM", dim), ("D", width), ("PARTS", parts)),
            (rows, 1, 1),
            Work(bytes=4.0 * parts * rows * (dim + 2) + 2 * rows * dim),
            warps=max(1, min(4, width // target.warp)),
            stages=1,
        )
        scratch = (Scratch("parts", "fp32", parts * rows * dim), Scratch("state", "fp32", parts * rows * 2))
        return Plan((launch, combine), scratch)


def _rows(workload: Workload) -> int:
    """Rows of all tiles of one key-value head."""
    return int(workload["q"] * workload["heads"] // workload["kv_heads"])


def _width(workload: Workload) -> int:
    """``dim`` up to a power of two that a tensor instruction takes."""
    return max(16, 1 << (int(workload["dim"]) - 1).bit_length())


def _visible(workload: Workload) -> float:
    """Share of the pairs of query and key that count."""
    pairs = workload["batch"] * workload["heads"] * workload["q"] * workload["kv"] * workload["dim"]
    return float(workload.flops / (4 * pairs))


def _pattern(pattern: Pattern | None) -> tuple[tuple[str, int], ...]:
    if pattern is None:
        return (("PATTERN", 0), ("PATTERN_BLOCK", 1), ("A", 1), ("B", 1))
    a, b = (*pattern.numbers, 1)[:2]
    return (("PATTERN", _PATTERNS[pattern.kind]), ("PATTERN_BLOCK", pattern.block), ("A", a), ("B", b))
