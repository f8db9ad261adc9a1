"""What the cost model sees of a schedule: counts of work and traffic, as logarithms where they scale."""

from __future__ import annotations

import math

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemv.plan import VECTOR_BYTES, Plan, ceil_div

_OPERATIONS = {
    ("integer", "avx512"): 2.0,  # mask, vpdpbusd
    ("integer", "avxvnni"): 2.0,
    ("integer", "avx2"): 5.0,  # shift, mask, vpmaddubsw, and a share of adds and vpmaddwd
    ("lut", "avx512"): 3.5,  # half a shift, and-or, vpermb, vpdpbusd
    ("lut", "avx512bw"): 5.5,
    ("lut", "avx2"): 5.5,  # half a shift, mask, vpshufb, unpack, vpmaddubsw, add
    ("mirror", "avx512"): 6.0,  # vpermi2b, the sign, xor, shift, two adds
    ("dequantise", "avx512"): 4.0,  # shift, mask, convert, multiply-add
    ("dequantise", "avx2"): 4.0,
    ("dequantise", "portable"): 5.0,
}
"""Vector instructions per dot product or look-up of the inner loop."""


def plan_features(plan: Plan, device: Device) -> dict[str, float]:
    """Physically meaningful numbers of a schedule, without compiling it."""
    lines = plan.weight_bytes / plan.line_bytes
    products = plan.step_products / plan.planes * lines * plan.parts * plan.m
    operations = products * _OPERATIONS[plan.algorithm, plan.isa]
    epilogues = plan.padded_n * plan.stored_groups * plan.m / plan.lanes
    tiles_per_thread = ceil_div(plan.tiles, plan.threads)
    first_level = cpu.cache_bytes(device, "L1d") or 32 << 10
    second_level = cpu.cache_bytes(device, "L2") or 256 << 10
    tables = plan.batch * plan.table_bytes / plan.m
    return {
        **{f"is_{name}": float(plan.algorithm == name) for name in ("integer", "lut", "mirror", "dequantise")},
        **{f"isa_{name}": float(plan.isa == name) for name in VECTOR_BYTES},
        "log_tile": math.log2(plan.tile),
        "log_blocks": math.log2(plan.blocks),
        "log_batch": math.log2(plan.batch),
        "log_unroll": math.log2(plan.unroll),
        "log_prefetch": math.log2(1 + plan.prefetch),
        "log_threads": math.log2(plan.threads),
        "is_shared": float(plan.preparation == "shared"),
        "is_interleaved": float(plan.split == "interleaved"),
        "bits": float(plan.format.bits),
        "log_group": math.log2(plan.group),
        "log_packed_bytes": math.log2(plan.packed_bytes),
        "log_thread_bytes": math.log2(plan.packed_bytes * ceil_div(plan.m, plan.batch) / plan.threads),
        "padding": plan.padded_n * plan.padded_k / (plan.n * plan.k),
        "log_operations": math.log2(operations / plan.threads),
        "operations_per_byte": operations / plan.weight_bytes,
        "products_per_weight": products / (plan.m * plan.n * plan.k),
        "log_epilogues": math.log2(epilogues / plan.threads),
        "sums_in_flight": float(plan.blocks * plan.batch * plan.parts * plan.accumulators),
        "log_body": math.log2(plan.unroll * plan.blocks * plan.batch * plan.parts * plan.step_products),
        "log_tables_in_l1": math.log2(tables / first_level),
        "log_table_group_bytes": math.log2(tables / plan.groups),
        "log_tile_bytes_in_l2": math.log2(plan.packed_bytes / plan.tiles / second_level),
        "log_tiles_per_thread": math.log2(tiles_per_thread),
        "imbalance": tiles_per_thread * plan.threads / plan.tiles,
        "prefetch_lines": plan.prefetch / plan.line_bytes / max(1, plan.steps * plan.planes),
    }
