"""What the cost model sees of a schedule: counts of work and traffic, as logarithms where they scale."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.rounding import ceil_div

_LINE = 64
"""Bytes of codes in a vector, which are as many weights once they are decoded."""


@attrs.frozen
class _Work:
    """Instructions of all threads together.

    Attributes:
        per_product: multiply-adds of one.
        across, down: products that share a load of x, and of W.
        products, loads: multiplying instructions, and loads of their operands.
        decodes: instructions that make weights of packed codes.
        epilogues: vectors of sums scaled, one for each group of K.
    """

    per_product: int
    across: int
    down: int
    products: float
    loads: float
    decodes: float
    epilogues: float

    @classmethod
    def of(cls, plan: GemmPlan) -> _Work:
        packed = plan.packed
        if plan.is_amx:
            per_product, down = LANES * plan.tile_rows * plan.tile_k, plan.tiles_down
        else:
            per_product, down = LANES if plan.is_float else _LINE, plan.rows
        products = plan.padded_m * packed.padded_n * packed.padded_k / per_product
        return cls(
            per_product=per_product,
            across=plan.vectors,
            down=down,
            products=products,
            loads=products * (1 / down + 1 / plan.vectors),
            decodes=_decodes(plan),
            epilogues=plan.padded_m * packed.padded_n * packed.groups / LANES,
        )


def _decodes(plan: GemmPlan) -> float:
    """Each band decodes all vectors: two instructions a plane or field, more for floats, one to take zeros off."""
    packed = plan.packed
    vectors = packed.padded_n * packed.padded_k / _LINE * plan.bands
    of_a_vector = 2 * packed.planes if plan.order == "planes" else 2 * (not plan.is_plain)
    return vectors * (of_a_vector + 16 * plan.is_float + plan.is_centred)


def plan_features(plan: GemmPlan, device: Device) -> dict[str, float]:
    """Physically meaningful numbers of a schedule, without compiling it."""
    work = _Work.of(plan)
    return {**_shape_features(plan), **_work_features(plan, work), **_cache_features(plan, device)}


def _shape_features(plan: GemmPlan) -> dict[str, float]:
    """The schedule's own numbers, and how evenly they cut the problem."""
    packed = plan.packed
    panels = packed.tiles * plan.panels
    share = ceil_div(panels, plan.column_threads)
    return {
        "is_amx": float(plan.is_amx),
        "is_centred": float(plan.is_centred),
        "is_planes": float(plan.order == "planes"),
        "is_staged": float(plan.is_staged),
        "log_tile": math.log2(packed.tile),
        "log_panel": math.log2(plan.panel),
        "rows": float(plan.rows),
        "log_vectors": math.log2(plan.vectors),
        "log_unroll": math.log2(plan.unroll),
        "ahead": float(plan.ahead),
        "log_threads": math.log2(plan.threads),
        "huge_pages": float(plan.pages == "huge"),
        "log_row_threads": math.log2(plan.row_threads),
        "log_row_blocks": math.log2(plan.row_blocks),
        "log_group": math.log2(packed.group),
        "sums_in_flight": float(plan.rows * plan.vectors),
        "padding": plan.padded_m * packed.padded_n * packed.padded_k / (plan.m * packed.n * packed.k),
        "log_units_per_thread": math.log2(share),
        "imbalance": share * plan.column_threads / panels,
    }


def _work_features(plan: GemmPlan, work: _Work) -> dict[str, float]:
    """Instructions of a thread, and those around each product."""
    steps = 1 if plan.is_amx else plan.step_chunks
    return {
        "log_product": math.log2(work.per_product),
        "log_products": math.log2(work.products / plan.threads),
        "log_loads": math.log2(work.loads / plan.threads),
        "loads_per_product": work.loads / work.products,
        "decodes_per_product": work.decodes / work.products,
        "epilogues_per_product": work.epilogues / work.products,
        "log_body": math.log2(plan.unroll * work.down * work.across * steps),
    }


def _cache_features(plan: GemmPlan, device: Device) -> dict[str, float]:
    """Bytes packed, and what is used again as a share of the cache that should hold it."""
    l1, l2 = cpu.l1_bytes(device), cpu.l2_bytes(device)
    slab_k = plan.slab_steps * plan.packed.step_k
    return {
        "log_packed_bytes": math.log2(plan.packed.packed_bytes),
        "log_codes_in_l1": math.log2(plan.panel * slab_k * (4 if plan.is_float else 1) / l1),
        "log_sums_in_l1": math.log2(4 * plan.band * plan.panel / l1),
        "log_activations_in_l2": math.log2(plan.padded_m * plan.packed.padded_k / l2),
    }
