"""The kernel: (row, group) pairs shared among threads, each rounded as the products themselves would round it."""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import IRBuilder

from fettle.backends.api import Schedule
from fettle.backends.cpu.gemv import quantise
from fettle.backends.cpu.gemv.formats import Floats
from fettle.backends.cpu.gemv.words import Buffer, Expr, T, argument, parallel, store
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload


def kernel(workload: Workload, schedule: Schedule, converts_half: bool) -> Any:
    """The TensorIR function ``(x, y)``; the parts of y are those of :mod:`fettle.graph.prepared`."""
    floats = Floats(workload["act"].kind, converts_half)
    rows, cols = workload["rows"], workload["cols"]
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("quantize")
        T.func_attr({"tirx.noalias": True})
        x = argument("x", (rows, cols), floats.dtype)
        y = argument("y", workload.result.shape, "int32")
        _emit(workload, schedule, floats, x, y)
    return builder.get()


def _emit(workload: Workload, schedule: Schedule, floats: Floats, x: Buffer, y: Buffer) -> None:
    fmt: PreparedFormat = workload["out"]
    groups = fmt.groups(workload["cols"])
    pairs, threads = workload["rows"] * groups, schedule["threads"]
    units = fmt.value_words(workload["rows"], workload["cols"])
    with parallel(threads) as thread, T.serial(pairs * thread // threads, pairs * (thread + 1) // threads) as pair:
        row, first = pair // groups, pair % groups * fmt.group

        def read(offset: Expr, row: Expr = row, first: Expr = first) -> Expr:
            return floats.read(x, (row, first + offset), quantise.LANES)

        if fmt.element == "i8":
            spans = [(0, pair * (fmt.group // 4), fmt.group)]
            unit, total = quantise.codes(read, fmt.group, spans, y, schedule["unroll"])
        else:
            tables = T.decl_buffer((4 * units,), "int8", data=y.data, align=1)
            place = pair * fmt.group * 4
            unit, total = quantise.tables(read, fmt.group, place, tables, schedule["unroll"])
            total = T.reinterpret("int32", total)
        store(y, units + pair, T.reinterpret("int32", unit), 1)
        store(y, units + pairs + pair, total, 1)
