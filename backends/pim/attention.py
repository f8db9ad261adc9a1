"""The operator ``attention`` for decoding: scores and values on units, softmax between them.

Both products are matrix-vector products per KV head: ``score = q · Kᵀ / √dim`` has the keys as its weight,
``out = p · V`` the values, stored so that a bank's row runs along the sequence. All query heads that share a KV head,
and all query positions, are rows of x.

Where results stay in the banks (HBM-PIM) the host reads those of the first product before it computes the softmax: 16
sums each, which it adds up. Those of the second stay, as those of ``matmul`` do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Value
from fettle.backends.pim import product
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.gemv import Gemv, rounded
from fettle.backends.pim.mapping import Array, Family, Mapped
from fettle.backends.pim.matmul import refresh_parameter
from fettle.backends.pim.program import HOST, SYNC, Builder
from fettle.backends.pim.softmax import HOST_SOFTMAX, places, softmax, softmax_cycles
from fettle.graph.operators.attention import is_usual
from fettle.graph.workload import Workload

SCORE, VALUE = "score_", "value_"
_MOST_QUERIES = 16
"""Query positions; more are a prefill, which belongs on another device."""


class AttentionFamily(Family):
    """Decode attention: both products on units, softmax between them."""

    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        v = workload.values
        if v["act"].kind not in (formats := _formats(hardware)) or v["kvcache"] != v["act"]:
            return f"units take activations of {' or '.join(formats)}, and caches of the same"
        if not is_usual(v):
            return "neither masks as operands nor scales other than 1 / √dim"
        if v["q"] > _MOST_QUERIES:
            return f"at most {_MOST_QUERIES} query positions: this is for decoding"
        rows = product.rows_for_weights(hardware)
        fits = sum(product.most_rows(gemv, hardware) for gemv in products(workload)) <= rows
        return "" if fits else f"the cache does not fit {rows} rows a bank"

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        found: list[Parameter] = []
        rules: list[Constraint] = []
        for gemv, prefix in zip(products(workload), (SCORE, VALUE), strict=True):
            more, constraints = product.parameters(gemv, hardware, prefix)
            found += more
            rules += constraints
        return Space((*found, Parameter("softmax", places(hardware)), refresh_parameter(hardware)), tuple(rules))

    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        score, value = products(workload)
        return {
            **product.textbook(score, hardware, SCORE),
            **product.textbook(value, hardware, VALUE),
            "softmax": HOST_SOFTMAX,
            "refresh_slack": 0,
        }

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        v = workload.values
        score, value = products(workload)
        builder = Builder(hardware.organisation.channels)
        scores = product.place(score, hardware, schedule, builder, SCORE)
        scores.read_results(builder)
        builder.add(SYNC)
        elements = score.problems * score.m * score.n
        builder.add(HOST, count=softmax_cycles(str(schedule["softmax"]), elements, hardware))
        values = product.place(value, hardware, schedule, builder, VALUE, first_row=scores.rows)
        program = builder.build()

        def compute(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
            q, keys, cache = inputs[0].astype(np.float32), inputs[1], inputs[2]
            shape = (score.problems, score.m, v["dim"])
            x = q.reshape(v["batch"], v["kv_heads"], -1, v["dim"]).reshape(shape)
            rows = keys.reshape(score.problems, v["kv"], v["dim"])
            logits = scores.multiply(program, x, product.stored(rows, hardware))
            logits /= np.float32(math.sqrt(v["dim"]))
            if v["causal"]:
                position = np.arange(score.m) % v["q"]
                last = v["kv"] - v["q"] + position
                logits[:, np.arange(v["kv"]) > last[:, None]] = -np.inf
            weights = rounded(softmax(logits), score.format)
            columns = cache.reshape(value.problems, v["kv"], v["dim"]).transpose(0, 2, 1)
            return values.multiply(program, weights, product.stored(columns, hardware))

        return Mapped(program, compute, int(schedule["refresh_slack"]))


def _formats(hardware: Hardware) -> tuple[str, ...]:
    return ("bf16",) if hardware.is_global_buffer else ("f16", "bf16")


def products(workload: Workload) -> tuple[Gemv, Gemv]:
    """Scores and values of a workload."""
    v = workload.values
    problems, m = v["batch"] * v["kv_heads"], v["heads"] // v["kv_heads"] * v["q"]
    score = Gemv(problems, m, v["kv"], v["dim"], v["act"], wide=True)
    return score, Gemv(problems, m, v["dim"], v["kv"], v["act"])
