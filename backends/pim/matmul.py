"""The operator ``matmul``, on units of either kind or through the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Value
from fettle.backends.pim import globalbuffer, product
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.mapping import Array, Family, Mapped
from fettle.backends.pim.program import SYNC, Builder
from fettle.backends.pim.stream import stream
from fettle.backends.rounding import ceil_div
from fettle.graph.formats import FLOATS
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

HOST_READS = "host"
"""The dataflow without units: the host reads the weights and multiplies."""

SLACKS = (0, 1, 2, 4, 8)
"""Refreshes that may be postponed; JEDEC allows 8."""

_ACTS = ("bf16", "f16")


def gemv_of(workload: Workload) -> Gemv:
    """The product a workload describes."""
    v = workload.values
    stored = v["weight"] if v["weight"] is not None else v["rhs"]
    return Gemv.of_weight(v["m"], v["n"], v["k"], v["act"], stored, problems=v["batch"])


def refresh_parameter(hardware: Hardware) -> Parameter:
    """``refresh_slack``, one choice where there is no refresh."""
    return Parameter("refresh_slack", SLACKS if hardware.refresh else SLACKS[:1])


class MatmulFamily(Family):
    """``y = x · W`` with few rows of x."""

    def unsupported(self, workload: Workload, hardware: Hardware) -> str:
        v = workload.values
        stored = v["weight"] if v["weight"] is not None else v["rhs"]
        if v["act"].kind not in _ACTS or v["out"] != v["act"]:
            return "units take bf16 or f16 activations and return them (8-bit weights: act=bf16 weight=u8:row)"
        if v["epilogue"] is not None:
            return "units have no epilogue"
        if v["invariant"]:
            return "mappings may depend on M"
        if stored.is_binary_coded or stored.kind in ("tern", "bip1") or stored.bits not in (4, 8, 16):
            return "weights are bf16, f16, u8 or u4"
        if stored.scale not in FLOATS:
            return "scales are f16 or f32"
        if stored.group is None and stored != v["act"]:
            return "dense weights have the format of the activations"
        if not hardware.is_global_buffer and stored.is_quantised:
            return f"units of {hardware.preset.name} multiply 16-bit weights only"
        if stored.is_quantised and stored.group != 0 and stored.group > v["k"]:
            return "groups are not longer than K"
        rows = product.rows_for_weights(hardware)
        if product.most_rows(gemv_of(workload), hardware) > rows:
            return f"the weights do not fit {rows} rows a bank"
        return ""

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        found, rules = product.parameters(gemv_of(workload), hardware)
        dataflow, *others = found
        # What the host reads is one stream: every other parameter has its textbook value.
        values = self.textbook(workload, hardware, {})
        for parameter in others:
            value = values[parameter.name]
            if len(parameter.choices) > 1:
                rules.append(Constraint(f"dataflow != '{HOST_READS}' or {parameter.name} == {value!r}", "unused"))
        rules = [
            Constraint(f"dataflow == '{HOST_READS}' or ({r.expression})", r.reason)
            if HOST_READS not in r.expression
            else r
            for r in rules
        ]
        dataflow = Parameter("dataflow", (*dataflow.choices, HOST_READS))
        return Space((dataflow, *others, refresh_parameter(hardware)), tuple(rules))

    def textbook(self, workload: Workload, hardware: Hardware, given: Mapping[str, Value]) -> dict[str, Value]:
        return {**product.textbook(gemv_of(workload), hardware), "refresh_slack": 0}

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        gemv = gemv_of(workload)
        builder = Builder(hardware.organisation.channels)
        slack = int(schedule["refresh_slack"])
        dynamic = workload["weight"] is None

        def operands(inputs: Sequence[Array], constants: Sequence[Array]) -> tuple[Array, Array]:
            x = inputs[0].astype(np.float32).reshape(gemv.problems, gemv.m, gemv.k)
            return x, _packed(inputs[1], gemv, hardware) if dynamic else constants[0]

        if schedule["dataflow"] == HOST_READS:
            _read_by_host(builder, gemv, hardware)
            return Mapped(builder.build(), lambda i, c: _multiply(*operands(i, c), hardware), slack)
        placed = product.place(gemv, hardware, schedule, builder)
        program = builder.build()
        return Mapped(program, lambda i, c: placed.multiply(program, *operands(i, c)), slack)

    def features(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> dict[str, float]:
        """How often what happens, and about how many cycles it takes one after the other."""
        if not hardware.is_global_buffer:
            return {}
        gemv, org, timing = gemv_of(workload), hardware.organisation, hardware.preset.timing
        interval = timing.get("CCDAB", timing["CCDL"])
        if schedule["dataflow"] == HOST_READS:
            columns = ceil_div(gemv.weight_bytes, org.channels * org.column_bytes)
            return {"log2_cycles": float(np.log2(columns * hardware.bus_interval))}
        counts = globalbuffer.Plan.of(gemv, org, schedule).counts()
        change = 2 * timing.get("MODCH", 0)  # to the banks and back: a row can close meanwhile
        cycles = counts["columns"] * interval + counts["fed"] * hardware.bus_interval + counts["waits"]
        cycles += counts["rows"] * (timing["RP"] + timing["RCDMAC"] + (0 if change else timing["RTP"]))
        cycles += counts["segments"] * change + counts["reads"] * (
            timing["CLREG"] + 2 * timing.get("BLREG", timing["BL"])
        )
        found = {f"log2_{name}": float(np.log2(count)) for name, count in counts.items()}
        return {**found, "log2_cycles": float(np.log2(cycles))}

    def pack(self, workload: Workload, hardware: Hardware, constants: Sequence[Operand]) -> tuple[Array, ...]:
        return tuple(_packed(weight, gemv_of(workload), hardware) for weight in constants)


def _read_by_host(builder: Builder, gemv: Gemv, hardware: Hardware) -> None:
    """The weights; on devices that keep results in their banks also x, and y written, both twice: the benchmark with
    which PIMSimulator compares its kernels does so."""
    width = hardware.organisation.channels * hardware.organisation.column_bytes
    weights = ceil_div(gemv.weight_bytes, width)
    if hardware.is_global_buffer:
        stream(builder, hardware, "RD", weights)
        return
    x, y = (ceil_div(2 * gemv.problems * gemv.m * length, width) for length in (gemv.k, gemv.n))
    place = 0
    for command, columns in (("RD", weights + x), ("WR", y), ("RD", x), ("WR", y)):
        place = stream(builder, hardware, command, columns, place)
        builder.add(SYNC)


def _packed(weight: Operand, gemv: Gemv, hardware: Hardware) -> Array:
    """A right-hand side as units take it, see :func:`product.stored`."""
    if isinstance(weight, QuantizedWeight):
        rows = weight.dequantise(dtype=np.float32)[None]
    else:
        rows = weight.reshape(gemv.problems, gemv.k, gemv.n).transpose(0, 2, 1)
    return product.stored(rows, hardware)


def _multiply(x: Array, weight: Array, hardware: Hardware) -> Array:
    """The product as the host computes it, of :func:`product.stored` weights."""
    if not hardware.is_global_buffer:
        return x @ weight.transpose(0, 2, 1)
    from fettle.backends.pim import bufferunits  # loads Numba

    return bufferunits.product(x, weight)
