"""The operator ``matmul``, on units of either kind or through the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Space, Value
from fettle.backends.pim import bufferprogram, bufferspace, globalbuffer, registers
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.mapping import Array, Family, Mapped
from fettle.backends.pim.modes import PARK_ROW
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
        rows = hardware.organisation.rows if hardware.is_global_buffer else PARK_ROW
        if any(self._rows(workload, hardware, s) > rows for s in self._extremes(workload, hardware)):
            return f"the weights do not fit {rows} rows a bank"
        return ""

    def _extremes(self, workload: Workload, hardware: Hardware) -> list[Schedule]:
        """Schedules of which one takes the most rows."""
        base = self.textbook(workload, hardware, {})
        if not hardware.is_global_buffer:
            return [Schedule.of(**{**base, "dataflow": flow}) for flow in (bufferspace.OUTPUT, bufferspace.INPUT)]
        shortest = next(p for p in self.space(workload, hardware).parameters if p.name == "chunk").choices[0]
        return [Schedule.of(**{**base, "chunk": shortest})]

    def _rows(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> int:
        gemv, org = gemv_of(workload), hardware.organisation
        if hardware.is_global_buffer:
            return globalbuffer.Plan.of(gemv, org, schedule).rows
        return registers.Plan.of(gemv, org, schedule).rows

    def space(self, workload: Workload, hardware: Hardware) -> Space:
        gemv, org = gemv_of(workload), hardware.organisation
        rules: list[Constraint] = []
        if hardware.is_global_buffer:
            found, rules = bufferspace.parameters(gemv, org)
        else:
            found = registers.parameters()
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
        gemv, org = gemv_of(workload), hardware.organisation
        if hardware.is_global_buffer:
            values = bufferspace.textbook(gemv, org)
        else:
            values = {parameter.name: parameter.choices[0] for parameter in registers.parameters()}
        return {**values, "refresh_slack": 0}

    def map(self, workload: Workload, hardware: Hardware, schedule: Schedule) -> Mapped:
        from fettle.backends.pim import bufferunits  # loads Numba

        gemv, org = gemv_of(workload), hardware.organisation
        builder = Builder(org.channels)
        slack = int(schedule["refresh_slack"])
        dynamic = workload["weight"] is None

        def operands(inputs: Sequence[Array], constants: Sequence[Array]) -> tuple[Array, Array]:
            x = inputs[0].astype(np.float32).reshape(gemv.problems, gemv.m, gemv.k)
            return x, _packed(inputs[1], gemv, hardware) if dynamic else constants[0]

        if schedule["dataflow"] == HOST_READS:
            _read_by_host(builder, gemv, hardware)

            def read(inputs: Sequence[Array], constants: Sequence[Array]) -> Array:
                x, weight = operands(inputs, constants)
                return bufferunits.product(x, weight) if hardware.is_global_buffer else x @ weight.transpose(0, 2, 1)

            return Mapped(builder.build(), read, slack)
        if hardware.is_global_buffer:
            plan = globalbuffer.Plan.of(gemv, org, schedule)
            notes = bufferprogram.emit(plan, builder)
            program = builder.build()
            return Mapped(program, lambda i, c: bufferunits.execute(plan, program, notes, *operands(i, c)), slack)
        tiles = registers.Plan.of(gemv, org, schedule)
        tiles.emit(builder)
        program = builder.build()
        return Mapped(program, lambda i, c: tiles.compute(program, *operands(i, c)), slack)

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
    """A right-hand side as units take it: ``[problems, N, K]`` float32, in panels where a global buffer feeds them."""
    from fettle.backends.pim import bufferunits  # loads Numba

    if isinstance(weight, QuantizedWeight):
        rows = weight.dequantise(dtype=np.float32)[None]
    else:
        rows = weight.reshape(gemv.problems, gemv.k, gemv.n).transpose(0, 2, 1)
    return bufferunits.panels(rows) if hardware.is_global_buffer else np.ascontiguousarray(rows).astype(np.float32)
