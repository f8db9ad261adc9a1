"""What the cost model sees of a schedule: counts of work and traffic, as logarithms where they scale."""

from __future__ import annotations

import math

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm.plan import LANES, GemmPlan
from fettle.backends.cpu.gemv.plan import ceil_div


def plan_features(plan: GemmPlan, device: Device) -> dict[str, float]:
    """Physically meaningful numbers of a schedule, without compiling it."""
    packed = plan.packed
    first_level = cpu.cache_bytes(device, "L1d") or 32 << 10
    second_level = cpu.cache_bytes(device, "L2") or 256 << 10
    # multiply-adds of one instruction, and how many of them share a load of x, and how many one of W
    per_product, across, down = LANES if plan.is_float else 64, plan.vectors, plan.rows
    if plan.is_amx:
        per_product, down = LANES * plan.tile_rows * plan.tile_k, plan.tiles_down
    products = plan.padded_m * packed.padded_n * packed.padded_k / per_product
    loads = products * (1 / down + 1 / across)
    vectors = packed.padded_n * packed.padded_k / 64
    decodes = vectors * plan.bands * (2 * packed.planes if plan.order == "planes" else 2 * (not plan.is_plain))
    if plan.is_float:
        decodes += 16 * vectors * plan.bands
    if plan.is_centred:
        decodes += vectors * plan.bands
    epilogues = plan.padded_m * packed.padded_n * packed.groups / LANES
    units = packed.tiles * plan.panels
    shares = ceil_div(units, plan.column_threads)
    slab_k = plan.slab_steps * packed.step_k
    return {
        "is_amx": float(plan.is_amx),
        "is_centred": float(plan.is_centred),
        "log_product": math.log2(per_product),
        "is_planes": float(plan.order == "planes"),
        "is_staged": float(plan.is_staged),
        "log_tile": math.log2(packed.tile),
        "log_panel": math.log2(plan.panel),
        "rows": float(plan.rows),
        "log_vectors": math.log2(plan.vectors),
        "log_unroll": math.log2(plan.unroll),
        "ahead": float(plan.ahead),
        "log_threads": math.log2(plan.threads),
        "log_row_threads": math.log2(plan.row_threads),
        "log_row_blocks": math.log2(plan.row_blocks),
        "log_group": math.log2(packed.group),
        "log_packed_bytes": math.log2(packed.packed_bytes),
        "padding": plan.padded_m * packed.padded_n * packed.padded_k / (plan.m * packed.n * packed.k),
        "log_products": math.log2(products / plan.threads),
        "log_loads": math.log2(loads / plan.threads),
        "loads_per_product": loads / products,
        "decodes_per_product": decodes / products,
        "epilogues_per_product": epilogues / products,
        "sums_in_flight": float(plan.rows * plan.vectors),
        "log_body": math.log2(plan.unroll * down * across * (1 if plan.is_amx else plan.step_chunks)),
        "log_codes_in_l1": math.log2(plan.panel * slab_k * (4 if plan.is_float else 1) / first_level),
        "log_sums_in_l1": math.log2(4 * plan.band * plan.panel / first_level),
        "log_activations_in_l2": math.log2(plan.padded_m * packed.padded_k / second_level),
        "log_units_per_thread": math.log2(shares),
        "imbalance": shares * plan.column_threads / units,
    }
