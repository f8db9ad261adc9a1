"""What the cost model sees of a schedule: cycles of the busiest thread by cause.

Analysis, not measurement: instructions of the inner loop, the chain of additions into each sum, lines asked for ahead,
bytes read. Whichever takes longest hides the others; what surrounds the loop adds to it. The cycles that one of each
takes were fitted to 2366 measured schedules of six products on a Zen 4 (``bench/results/zen4``), the fast ones weighing
most; those of look-ups, tables and a second thread were set anew by 31 schedules when half tables became faster. On
other machines they are rough, and the model learns by how much from the trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.rounding import ceil_div

CLOCK = 3.7e9
"""Cycles a second of the machine the constants were fitted on."""

_PRODUCT = {
    ("integer", "avx512"): 1.15,  # mask, vpdpbusd
    ("integer", "avxvnni"): 0.67,
    ("integer", "avx2"): 0.84,  # shift, mask, vpmaddubsw, and a share of adds and vpmaddwd
    ("lut", "avx512"): 2.1,  # half a shift, and-or, vpermb, vpdpbusd
    ("lut", "avx512bw"): 3.2,
    ("lut", "avx2"): 1.45,  # half a shift, mask, vpshufb, unpack, vpmaddubsw, add
    ("mirror", "avx512"): 3.7,  # vpermi2b, the sign, xor, shift, two adds
    ("triplets", "avx512"): 3.5,  # the index, vpermb, shift, two adds
    ("triplets", "avx512bw"): 4.0,  # from ratios to the others, not fitted with them
    ("triplets", "avx2"): 1.75,  # index and sign, vpshufb, xor, shift, two adds
    ("triplets", "portable"): 28.0,
    ("dequantise", "avx512"): 2.0,  # shift, mask, convert, multiply-add; those below were not fitted
    ("dequantise", "avx2"): 1.0,
    ("dequantise", "portable"): 2.0,
}
"""Cycles of one dot product or look-up of a vector in the inner loop."""

_ADDITION = 2.0
"""Cycles until the next addition into the same sum, as far as the processor does not run ahead."""

_PREFETCHED_LINE = 3.7
_READ_BYTE = 0.012
_BRANCH = 0.055
_TILE = 87.0
_PREPARED_BYTE = {"integer": 0.65, "lut": 0.41, "mirror": 0.12, "triplets": 0.23, "dequantise": 0.23}
"""Of codes and tables; the first three timed alone, with 4096 activations in groups of 128."""

_NEAR_TABLES = 24 << 10
"""Bytes of tables that stay in L1 beside the weights; larger ones are read from L2 for each tile."""

_FAR_BYTE = 0.014
_SHARING = 3_200.0
"""Cycles until all threads know that the shared activations are prepared."""

_FORK = 3_200.0
"""Cycles until a second thread has begun, and the first knows that it ended."""

_CONTENTION = 0.2
"""How much longer the inner loop takes while other threads read too."""

_EPILOGUE = 2.7
"""Cycles of scaling one vector of sums."""

_HIDING = 4
"""Exponent of the norm that combines what hides each other: near the maximum, a little more where two are close."""


def plan_features(plan: Plan, cycles: Mapping[str, float]) -> dict[str, float]:
    """Physically meaningful numbers of a schedule, without compiling it; logarithms where they scale.

    Args:
        cycles: what :func:`busiest_thread` says of the plan.
    """
    return {
        **{f"log_{cause}_cycles": math.log2(1.0 + value) for cause, value in cycles.items() if cause != "all"},
        "bits": float(plan.format.bits),
        "log_group": math.log2(plan.group),
        "huge_pages": float(plan.pages == "huge"),
    }


def busiest_thread(plan: Plan) -> dict[str, float]:
    """Cycles of the thread with the most tiles, by cause, and in ``all``."""
    share = ceil_div(plan.tiles, plan.threads) / plan.tiles
    lines = plan.weight_bytes / plan.line_bytes * share * ceil_div(plan.m, plan.batch)
    products = lines * plan.step_products / plan.planes * plan.parts * plan.batch
    steps = lines / plan.planes / plan.blocks
    causes = {
        "product": products * _PRODUCT[plan.algorithm, plan.isa],
        "addition": products / (plan.blocks * plan.batch * plan.parts * plan.accumulators) * _ADDITION,
        "prefetch": lines * _PREFETCHED_LINE if plan.prefetch else 0.0,
    }
    read = lines * plan.line_bytes * _READ_BYTE
    loop = sum(cycles**_HIDING for cycles in (*causes.values(), read)) ** (1 / _HIDING)
    loop *= 1.0 + _CONTENTION * (plan.threads > 1)
    again = plan.table_bytes if plan.table_bytes > _NEAR_TABLES else 0
    prepared = plan.table_bytes / (plan.threads if plan.preparation == "shared" else 1)
    around = {
        "prepare": prepared * _PREPARED_BYTE[plan.algorithm],
        "epilogue": plan.padded_n * plan.stored_groups * plan.m / plan.lanes * share * _EPILOGUE,
        "control": steps / plan.unroll * _BRANCH + share * plan.tiles * (_TILE + again * _FAR_BYTE),
        "threads": (plan.threads > 1) * _FORK + (plan.preparation == "shared") * _SHARING,
    }
    return {**causes, **around, "all": loop + sum(around.values())}
