"""Which schedules a product with low-bit weights has."""

from __future__ import annotations

import numpy as np

from fettle.backends.api import Constraint, Parameter, Space, Support
from fettle.backends.triton.lowbit.layouts import CONTAINERS, values_in
from fettle.backends.triton.lowbit.product import Product
from fettle.backends.triton.lowbit.spread import WORD, period
from fettle.backends.triton.targets import Target
from fettle.graph.codevalues import code_values
from fettle.graph.formats import Format
from fettle.graph.workload import Workload

SPACE_VERSION = "triton-lowbit-5"

LOW_PLANE = {3: 2, 5: 4, 6: 4}
"""Bits of the low plane of a width that is no power of two but the sum of two (FP6-LLM's 4 + 2; 2312.08583)."""

TWO_PLANE_VALUES = 8
HALFWORDS = ("ptx", "raw")
"""Methods that take whole codes out of words of 16 bits."""

_LARGEST_BLOCK = 512

_STEP = "block_k // values"
"""The K of one product, in the parameters of the space."""

_LEAST_STEP = {"float": 16, "bytes": 32}
"""The K of one tensor instruction, of halves and of single bytes."""

_MOST_OFFSETS = 1 << 31

_LARGEST_F16 = 65504.0


def supports(workload: Workload, target: Target) -> Support:
    """Products of f16 or bf16 activations with quantised weights."""
    if workload.operator != "matmul":
        return Support.no("only matmul")
    weight: Format | None = workload["weight"]
    if weight is None or not weight.is_quantised:
        return Support.no("only quantised weights")
    if workload["act"].kind not in ("f16", "bf16"):
        return Support.no("activations are f16 or bf16")
    if workload["invariant"]:
        return Support.no("no batch-invariant schedules")
    p = Product.of(workload)
    if weight.is_minifloat and p.act == "f16" and _largest(weight) > _LARGEST_F16:
        return Support.no(f"{weight.kind} has numbers that f16 has not")
    if weight.is_binary_coded and not p.rounds_weights:
        return Support.no("binary-coded weights are rounded to the activations' format, and compute= forbids that")
    if p.n * p.k >= _MOST_OFFSETS or p.m * max(p.n, p.k) >= _MOST_OFFSETS:
        return Support.no("an operand of 2^31 elements or more")
    if not _blocks(p):
        return Support.no(f"k={p.k} is no multiple of a block of 32 … 512")
    if not _scales(p):
        return Support.no(f"groups of {p.group} are shorter than a product, and compute= forbids rounding weights")
    return Support.yes()


def _largest(weight: Format) -> float:
    """The largest number that a code of a minifloat stands for."""
    values = code_values(weight.kind)
    return float(values[np.isfinite(values)].max())


def _values(p: Product) -> tuple[int, ...]:
    return tuple(sorted({*_container_values(p), halfword_values(p)}))


def _container_values(p: Product) -> set[int]:
    """How many codes, all planes together, fill containers."""
    return {values_in(p.weight.bits, container) for container in CONTAINERS}


def halfword_values(p: Product) -> int:
    """How many codes share words of 16 bits."""
    return values_in(p.word_bits, WORD)


def _blocks(p: Product) -> tuple[int, ...]:
    least = _LEAST_STEP["float"] * min(_values(p))
    return tuple(b for b in (32, 64, 128, 256, _LARGEST_BLOCK) if p.k % b == 0 and b >= least)


def _algorithms(p: Product, target: Target) -> tuple[str, ...]:
    if not any(b // v >= _LEAST_STEP["bytes"] and p.group % (b // v) == 0 for b in _blocks(p) for v in _values(p)):
        return ("float",)
    return ("float", *(("fp8",) if p.takes_fp8(target) else ()), *(("integer",) if p.takes_integers else ()))


def _scales(p: Product) -> tuple[str, ...]:
    """Before the product, where rounding is allowed; after it, where a product has one scale."""
    steps = {b // v for b in _blocks(p) for v in _values(p)}
    late = any(s >= _LEAST_STEP["float"] and p.group % s == 0 for s in steps)
    return (("early",) if p.rounds_weights else ()) + (("late",) if late else ())


def _methods(p: Product, target: Target) -> tuple[str, ...]:
    ptx = ("ptx",) if target.kind == "cuda" and (p.stack == 1 or p.k % p.group == 0) else ()
    if p.weight.is_minifloat:
        return ("convert", *ptx)
    magic = () if p.weight.is_binary_coded else ("magic",)
    return ("convert", *magic, *ptx, *(("raw",) if ptx and period(p.word_bits, p.act) else ()))


def space(workload: Workload, target: Target) -> Space:
    """Tiles, the way codes become values, where the scale is applied, how K is split, and the packed layout."""
    p = Product.of(workload)
    values, blocks, methods = _values(p), _blocks(p), _methods(p, target)
    low = LOW_PLANE.get(p.weight.bits)
    planes = ("one", "two") if low and TWO_PLANE_VALUES in values else ("one",)
    tiles_m = tuple(b for b in (8, 16, 32, 64, 128) if b < 2 * p.m or b in (8, 16))
    tiles_n = tuple(b for b in (16, 32, 64, 128, 256) if b < 2 * p.n or b == 16)
    splits = tuple(s for s in (1, 2, 3, 4, 5, 6, 8, 12, 16) if s * min(blocks) <= p.k)
    return Space(
        (
            Parameter.categorical("algorithm", _algorithms(p, target)),
            Parameter.categorical("method", methods),
            Parameter.categorical("scale", _scales(p)),
            Parameter.categorical("swap", (False, True)),
            Parameter.categorical("planes", planes),
            Parameter.categorical("contiguous", ("k", "n")),
            Parameter.categorical("order", ("stream", "tiles") if workload["epilogue"] is None else ("tiles",)),
            Parameter("values", values),
            Parameter("block_m", tiles_m),
            Parameter("block_n", tiles_n),
            Parameter("block_k", blocks),
            Parameter("split", splits),
            Parameter.categorical("reduce", ("launch", "last")),
            Parameter.categorical("overlap", (False, True) if target.has_dependent_launches else (False,)),
            Parameter("warps", (2, 4, 8)),
            Parameter("stages", (2, 3, 4, 5)),
            Parameter("registers", (0, 96, 128) if target.kind == "cuda" else (0,)),
            Parameter.categorical("settle", (False, True)),
        ),
        (
            *_tile_constraints(p, target),
            *(_halfword_constraints(p) if "ptx" in methods else ()),
            _settle_constraint(p),
            *(_raw_constraints() if "raw" in methods else ()),
            *(_binary_coded_constraints(p) if p.weight.is_binary_coded else ()),
            *(_epilogue_constraints() if workload["epilogue"] is not None else ()),
            *(_plane_constraints() if len(planes) > 1 else ()),
        ),
        version=SPACE_VERSION,
    )


def _tile_constraints(p: Product, target: Target) -> tuple[Constraint, ...]:
    return (
        Constraint("swap or block_m >= 16", "the rows of the left operand of a tensor instruction"),
        Constraint(f"{_STEP} >= (16 if algorithm == 'float' else 32)", "the K of a tensor instruction"),
        Constraint("block_m * block_n <= 4096 * warps", "an accumulator of at most 128 registers a thread"),
        Constraint(f"block_n * ({_STEP}) >= 32 * warps", "every thread has a word to unpack"),
        Constraint(f"scale == 'early' or {p.group} % ({_STEP}) == 0", "a late scale is one for a whole product"),
        Constraint("algorithm == 'float' or (scale == 'late' and method == 'convert')", "bytes are scaled last"),
        Constraint("split == 1 or order == 'tiles'", "a stream splits by itself"),
        Constraint("reduce == 'launch' or split > 1", "only parts have a last one"),
        Constraint(
            f"registers == 0 or (method in {HALFWORDS} and block_m * block_n <= 1024 * warps)",
            "fewer registers than the assembler likes suffice for small sums",
        ),
        Constraint(
            "not overlap or algorithm != 'float' or (reduce == 'launch' and (split > 1 or order == 'stream'))",
            "only launches that follow one another overlap",
        ),
        Constraint(f"split * block_k <= {p.k}", "every part of K has a block"),
        Constraint(
            f"stages * block_k * (2 * block_m + {p.weight.bits} * block_n // 8) <= {target.shared_block}",
            "the pipeline fits shared memory",
        ),
    )


def _halfword_constraints(p: Product) -> tuple[Constraint, ...]:
    aligned = f"(block_k % {p.group} == 0 or {p.group} % block_k == 0) and {p.group} % ({_STEP}) == 0"
    constraints = (
        Constraint(
            f"method not in {HALFWORDS} or (values == {halfword_values(p)} and planes == 'one' and {aligned}"
            f" and algorithm == 'float' and block_n * ({_STEP}) >= 64 * warps)",
            "whole codes fill words of 16 bits, are scaled by whole groups, and a thread loads two words ahead",
        ),
        Constraint(
            f"method != 'ptx' or block_m * (block_k if scale == 'early' else {p.group}) >= 64 * warps",
            "a thread has two activations of each product to load ahead",
        ),
    )
    if p.act == "f16" and p.weight.scale in ("f32", "e8m0"):
        return (*constraints, Constraint("method != 'ptx' or scale == 'late'", "f16 does not hold the scales"))
    return constraints


def _settle_constraint(p: Product) -> Constraint:
    """Late scales of groups settle each product anyway."""
    flying = "scale == 'early'" if p.group < p.k else "method == 'ptx'"
    return Constraint(f"not settle or (method == 'ptx' and {flying})", "only products that fly across passes settle")


def _raw_constraints() -> tuple[Constraint, ...]:
    return (
        Constraint(
            f"method != 'raw' or (scale == 'late' and (block_n if not swap else block_m) * ({_STEP}) >= 64 * warps)",
            "sums of codes as they lie are scaled, and a thread has two activations to load ahead",
        ),
    )


def _binary_coded_constraints(p: Product) -> tuple[Constraint, ...]:
    return (
        Constraint(f"scale == 'early' or method in {HALFWORDS}", "converted planes are scaled before they are added"),
        Constraint(
            f"method in {HALFWORDS} or values in {tuple(sorted(_container_values(p)))}", "codes fill their containers"
        ),
    )


def _epilogue_constraints() -> tuple[Constraint, ...]:
    return (Constraint("split == 1 or reduce == 'last'", "parts of a sum have no epilogue"),)


def _plane_constraints() -> tuple[Constraint, ...]:
    return (Constraint(f"planes == 'one' or values == {TWO_PLANE_VALUES}", "both planes hold 8 codes a container"),)
