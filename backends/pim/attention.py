"""The operator ``attention`` for decoding: scores and values on units, softmax between them.

Both products are matrix-vector products per KV head: ``score = q · Kᵀ / √dim`` has the keys as its weight,
``out = p · V`` the values, stored so that a bank's row runs along the sequence. All query heads that share a KV head,
and all query positions, are rows of x.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Value
from fettle.backends.pim import bufferspace, globalbuffer
from fettle.backends.pim.bufferprogram import emit
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
    """Decode attention on devices with a global buffer."""

    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        v = workload.values
        if not hardware.is_global_buffer:
            return f"{hardware.preset.name} has no mapping of attention"
        if v["act"].kind != "bf16" or v["kvcache"].kind != "bf16":
            return "units take bf16 and bf16 caches"
        if not is_usual(v):
            return "neither masks as operands nor scales other than 1 / √dim"
        if v["q"] > _MOST_QUERIES:
            return f"at most {_MOST_QUERIES} query positions: this is for decoding"
        base = Schedule.of(**self.textbook(workload, hardware, {}))
        org, used = hardware.organisation, 0
        for gemv, prefix in zip(products(workload), (SCORE, VALUE), strict=True):
            shortest = bufferspace.parameters(gemv, org, prefix)[0]
            chunk = next(p for p in shortest if p.name == f"{prefix}chunk").choices[0]
            schedule = Schedule.of(**{**base.as_dict(), f"{prefix}chunk": chunk})
            used += globalbuffer.Plan.of(gemv, org, schedule, prefix).rows
        return "" if used <= org.rows else f"the cache does not fit {org.rows} rows a bank"

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        found: list[Parameter] = []
        rules: list[Constraint] = []
        for gemv, prefix in zip(products(workload), (SCORE, VALUE), strict=True):
            more, constraints = bufferspace.parameters(gemv, hardware.organisation, prefix)
            found += more
            rules += constraints
        return Space((*found, Parameter("softmax", places(hardware)), refresh_parameter(hardware)), tuple(rules))

    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        score, value = products(workload)
        org = hardware.organisation
        return {
            **bufferspace.textbook(score, org, SCORE),
            **bufferspace.textbook(value, org, VALUE),
            "softmax": HOST_SOFTMAX,
            "refresh_slack": 0,
        }

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        from fettle.backends.pim.bufferunits import execute, panels  # loads Numba

        v, org = workload.values, hardware.organisation
        score, value = products(workload)
        builder = Builder(org.channels)
        scores = globalbuffer.Plan.of(score, org, schedule, SCORE)
        values = globalbuffer.Plan.of(value, org, schedule, VALUE, first_row=scores.rows)
        first = emit(scores, builder)
        builder.add(SYNC)
        elements = score.problems * score.m * score.n
        builder.add(HOST, count=softmax_cycles(str(schedule["softmax"]), elements, hardware))
        second = emit(values, builder)
        program = builder.build()

        def compute(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
            q, keys, cache = inputs[0].astype(np.float32), inputs[1], inputs[2]
            shape = (score.problems, score.m, v["dim"])
            x = q.reshape(v["batch"], v["kv_heads"], -1, v["dim"]).reshape(shape)
            logits = execute(scores, program, first, x, panels(keys.reshape(score.problems, v["kv"], v["dim"])))
            logits /= np.float32(math.sqrt(v["dim"]))
            if v["causal"]:
                position = np.arange(score.m) % v["q"]
                last = v["kv"] - v["q"] + position
                logits[:, np.arange(v["kv"]) > last[:, None]] = -np.inf
            weights = rounded(softmax(logits), score.format)
            stored = cache.reshape(value.problems, v["kv"], v["dim"]).transpose(0, 2, 1)
            return execute(values, program, second, weights, panels(stored))

        return Mapped(program, compute, int(schedule["refresh_slack"]))


def products(workload: Workload) -> tuple[Gemv, Gemv]:
    """Scores and values of a workload."""
    v = workload.values
    problems, m = v["batch"] * v["kv_heads"], v["heads"] // v["kv_heads"] * v["q"]
    score = Gemv(problems, m, v["kv"], v["dim"], v["act"], wide=True)
    return score, Gemv(problems, m, v["dim"], v["kv"], v["act"])
