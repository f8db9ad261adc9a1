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
from fettle.graph.operators.attention import is_usual
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
        if not is_usual(workload.values):
            return Support.no("neither masks as operands nor scales other than 1 / √dim")
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
                Parameter.categorical("queries", ("shared", "registers")),
            ),
            (
                Constraint(
                    f"block_m * ({width} + block_n + ({width // 2} if queries == 'registers' else 0)) <= 6144 * warps",
                    "accumulator, logits, and queries that are kept there, fit in registers",
                ),
                Constraint(
                    f"((0 if queries == 'registers' else block_m) + 2 * stages * block_n) * {2 * width}"
                    f" <= {target.shared_block}",
                    "queries and the pipeline fit shared memory",
                ),
                Constraint(f"split == 1 or split * block_n <= {kv}", "every part has a key"),
            ),
            version="triton-attention-2",
        )

    def default(self, workload: Workload, target: Target) -> Schedule:
        space = self.space(workload, target)
        choices = space.choices
        pattern: Pattern | None = workload["pattern"]
        for block_m in sorted((b for b in choices["block_m"] if b <= _LARGEST_DEFAULT), reverse=True):
            tiles = -(-_rows(workload) // block_m) * workload["batch"] * workload["kv_heads"]
            split = max(s for s in choices["split"] if s == 1 or s * tiles <= 2 * target.multiprocessors)
            # with both operands there, products need all that shared memory gives; decoding waits for the cache anyway
            queries = "registers" if block_m == _LARGEST_DEFAULT else "shared"
            for block_n, stages in ((64, 3), (64, 2), (32, 3), (32, 2), (32, 1)):
                if block_n > max(32, pattern.block if pattern else block_n):  # a step is within one block
                    continue
                schedule = Schedule.of(
                    block_m=block_m, block_n=block_n, split=split, stages=stages, warps=4, queries=queries
                )
                if is_valid(space, schedule):
                    return schedule
        raise Unsupported(f"no legal tile of {workload} fits {target.part}")

    def plan(self, workload: Workload, schedule: Schedule, target: Target) -> Plan:
        parts, rows = schedule["split"], _results(workload)
        if parts == 1:
            return Plan((_attend(workload, schedule),))
        scratch = (Scratch("parts", "fp32", parts * rows * workload["dim"]), Scratch("state", "fp32", parts * rows * 2))
        return Plan((_attend(workload, schedule), _combine(workload, parts, target)), scratch)


def _attend(workload: Workload, schedule: Schedule) -> Launch:
    """All of the results, or those of each part of the keys, unscaled, with their running maxima and sums."""
    cache, dim = workload["kvcache"], workload["dim"]
    parts, block_m, block_n = schedule["split"], schedule["block_m"], schedule["block_n"]
    step = block_n if workload["pattern"] is None else min(block_n, workload["pattern"].block)
    traffic = float(sum(tensor.nbytes for tensor in (*workload.operands, workload.result)))
    tiles, heads = -(-_rows(workload) // block_m), workload["batch"] * workload["kv_heads"]
    trips = max(1.0, _visible(workload) * workload["kv"] / (step * parts))
    in_registers = schedule["queries"] == "registers"
    return Launch(
        "attention:attention",
        (*_inputs(workload), *_outputs(workload, parts)),
        (
            ("HEADS", workload["heads"]),
            ("KV_HEADS", workload["kv_heads"]),
            ("Q", workload["q"]),
            ("KV", workload["kv"]),
            ("DIM", dim),
            ("D", _width(workload)),
            ("BITS", cache.bits if cache.is_quantised else 16),
            ("GROUP", cache.group or 1),
            ("CAUSAL", bool(workload["causal"])),
            *_pattern(workload["pattern"]),
            ("SCALE", 1.0 / (math.sqrt(dim) * math.log(2.0))),
            ("BM", block_m),
            ("BN", block_n),
            ("PARTS", parts),
            ("IN_REGISTERS", in_registers),
        ),
        (tiles, parts, heads),
        Work(
            bytes=traffic + (0 if parts == 1 else 4.0 * parts * _results(workload) * (dim + 2)),
            flops=4.0 * tiles * parts * heads * trips * block_m * block_n * _width(workload),
            unit="half",
            trips=trips,
            left_shared=0.0 if in_registers else 0.5,  # weights of values are in registers
            exponentials=block_m * block_n,
        ),
        schedule["warps"],
        schedule["stages"],
    )


def _inputs(workload: Workload) -> list[Argument]:
    """Queries and cache; scales and zero points only if the cache is quantised."""
    kind = f"*{ELEMENT[workload['act'].kind]}"
    places = {tensor.name: f"input:{i}" for i, tensor in enumerate(workload.operands)}
    found = []
    for name in ("q", "k", "k_scale", "k_zero", "v", "v_scale", "v_zero"):
        if name == "q" or not workload["kvcache"].is_quantised:
            # the kernel's constants keep it from following pointers of what a plain cache has not
            found.append(Argument(f"{name}_ptr", kind, places.get(name, places["q"])))
        else:
            found.append(Argument(f"{name}_ptr", "*u8" if name in ("k", "v") else "*fp32", places[name]))
    return found


def _outputs(workload: Workload, parts: int) -> tuple[Argument, Argument]:
    if parts > 1:
        return Argument("out_ptr", "*fp32", "scratch:parts"), Argument("state_ptr", "*fp32", "scratch:state")
    kind = f"*{ELEMENT[workload['act'].kind]}"
    return Argument("out_ptr", kind, "out"), Argument("state_ptr", kind, "out")


def _combine(workload: Workload, parts: int, target: Target) -> Launch:
    """The parts of each result, weighted by their sums of exponentials."""
    rows, dim, width = _results(workload), workload["dim"], _width(workload)
    return Launch(
        "attention:combine",
        (
            Argument("part_ptr", "*fp32", "scratch:parts"),
            Argument("state_ptr", "*fp32", "scratch:state"),
            Argument("out_ptr", f"*{ELEMENT[workload['act'].kind]}", "out"),
        ),
        (("ROWS", rows), ("DIM", dim), ("D", width), ("PARTS", parts)),
        (rows, 1, 1),
        Work(bytes=4.0 * parts * rows * (dim + 2) + 2 * rows * dim),
        warps=max(1, min(4, width // target.warp)),
        stages=1,
    )


def _results(workload: Workload) -> int:
    """Rows of the result, of all heads and batches."""
    return int(workload["batch"] * workload["heads"] * workload["q"])


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
