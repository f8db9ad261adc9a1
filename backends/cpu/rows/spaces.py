"""Spaces, defaults and features of the row operators. Needs no TVM.

algorithm    softmax only: three_pass or two_pass (see softmax.py)
degree       softmax only: degree of the exponential's polynomial
unroll       vectors per loop step, each with its own accumulator
row_block    neighbouring rows interleaved in one task; helps short rows, whose reductions are all latency
chunk        softmax two_pass: values whose maximum is taken before they are summed; elementwise: values per task
stream       write results past the caches; f32 only
threads      threads that share the rows (elementwise: the chunks)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Value
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.rows.exp import BOUND
from fettle.graph.operators.base import CONFIDENCE
from fettle.graph.workload import Workload

VERSION = "rows-1"


def space(workload: Workload, device: Device) -> Space:
    """Schedules of a softmax, rmsnorm, layernorm or elementwise workload."""
    if workload.operator == "elementwise":
        size = workload.result.size
        chunks = Parameter("chunk", tuple(c for c in (4096, 16384, 65536) if c < size) or (4096,))
        busy = Constraint(f"threads == 1 or (threads - 1) * chunk < {size}", "every thread has a task")
        return Space((chunks, _unroll(size, device), _stream(workload), _threads(device)), (busy,), VERSION)
    rows, cols = workload["rows"], workload["cols"]
    row_block = Parameter("row_block", tuple(b for b in (1, 2, 4) if rows % b == 0))
    parameters = [_unroll(cols, device), row_block, _stream(workload), _threads(device)]
    constraints = [
        Constraint("unroll * row_block <= 8", "accumulators stay in registers"),
        Constraint(f"threads == 1 or threads * row_block <= {rows}", "every thread has a task"),
    ]
    if workload.operator == "softmax":
        chunks = Parameter("chunk", tuple(c for c in (1024, 4096) if c <= cols) or (1024,))
        degrees = Parameter("degree", softmax_degrees(cols, lanes(device)))
        # three passes keep exponentials in the result, which would round them twice where it is narrow
        algorithms = ("three_pass", "two_pass") if str(workload["act"]) == "f32" else ("two_pass",)
        parameters = [Parameter("algorithm", algorithms), degrees, chunks, *parameters]
        constraints += [
            Constraint("algorithm == 'two_pass' or not stream", "three passes read back what they write"),
            Constraint(f"algorithm == 'two_pass' or chunk == {chunks.choices[0]}", "three passes have no chunks"),
        ]
    return Space(parameters, constraints, VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """Every thread that gets work, four vectors a step where rows are long enough, stores through the caches."""
    found = space(workload, device)
    values: dict[str, Value] = {parameter.name: parameter.choices[0] for parameter in found.parameters}
    choices = {
        parameter.name: [int(c) for c in parameter.choices if isinstance(c, int)] for parameter in found.parameters
    }
    values["unroll"] = max(unroll for unroll in choices["unroll"] if unroll <= 4)
    if workload.operator == "softmax":
        values["degree"] = 5
    tasks = -(-workload.result.size // choices["chunk"][0]) if workload.operator == "elementwise" else workload["rows"]
    values["threads"] = max(threads for threads in choices["threads"] if threads <= tasks)
    return Schedule(tuple(values.items()))


def features(candidate: Candidate) -> Mapping[str, float]:
    """What a row kernel does per call and per thread; sizes as base-2 logarithms."""
    workload, schedule = candidate.workload, candidate.schedule
    operator = workload.operator
    size, threads = workload.result.size, schedule["threads"]
    two_pass = schedule.get("algorithm") == "two_pass"
    width = workload.result.format.bits // 8
    row_bytes = width * (size if operator == "elementwise" else workload["cols"])
    reads = {"softmax": 2 if two_pass else 3, "rmsnorm": 2, "layernorm": 3, "elementwise": 0}[operator]
    writes = 2 if operator == "softmax" and not two_pass else 1
    if operator == "elementwise":
        reads = workload["expr"].arity
        step, tasks = schedule["chunk"], -(-size // schedule["chunk"])
    else:
        step, tasks = workload["cols"], workload["rows"] // schedule["row_block"]
    block = schedule.get("row_block", 1)
    l1, l2 = cpu.cache_bytes(candidate.device, "L1d"), cpu.cache_bytes(candidate.device, "L2")
    return {
        "reads_per_value": float(reads),
        "writes_per_value": float(writes),
        "exponentials_per_value": float((2 if two_pass else 1) if operator == "softmax" else 0),
        "log2_bytes_moved": math.log2(width * size * (reads + writes)),
        "log2_row_bytes": math.log2(row_bytes),
        "row_block_over_l1": width * step * block / l1 if l1 else 0.0,
        "row_block_over_l2": width * step * block / l2 if l2 else 0.0,
        "log2_chunk": math.log2(schedule.get("chunk", step)),
        "degree": float(schedule.get("degree", 0)),
        "unroll": float(schedule["unroll"]),
        "row_block": float(block),
        "accumulators": float(schedule["unroll"] * block),
        "steps_per_row": step / (lanes(candidate.device) * schedule["unroll"]),
        "tail_fraction": (step % lanes(candidate.device)) / step,
        "stream": float(schedule["stream"]),
        "threads": float(threads),
        "tasks_per_thread": tasks / threads,
        "idle_fraction": 1.0 - tasks / (threads * -(-tasks // threads)),
    }


def lanes(device: Device) -> int:
    """float32 values per vector."""
    return cpu.vector_bits(device) // 32


def softmax_degrees(cols: int, width: int) -> tuple[int, ...]:
    """Degrees of the exponential that keep a kernel within softmax's declared tolerance.

    In units of u = 2^-24 the tolerance is 16 + 2·|x-max| + λ√cols. The kernel spends 2·BOUND on the polynomial (in
    the numerator and in the sum) and 4 on the division and the scaling; its sum has ``width`` partial sums, so
    that cols/width + log2 width additions follow each other. Degree 5 fits the 16 alone; a lower degree
    may use what the shorter chains leave of λ√cols.
    """

    def fits(degree: int) -> bool:
        spent = 2.0 * BOUND[degree] + 4.0
        chain = math.sqrt(cols / width + math.log2(width))
        return spent <= 16.0 or spent + CONFIDENCE * chain <= 16.0 + CONFIDENCE * math.sqrt(cols)

    return tuple(degree for degree in sorted(BOUND) if fits(degree))


def _unroll(length: int, device: Device) -> Parameter:
    return Parameter("unroll", tuple(u for u in (1, 2, 4, 8) if u == 1 or u * lanes(device) <= length))


def _stream(workload: Workload) -> Parameter:
    return Parameter("stream", (False, True) if str(workload["act"]) == "f32" else (False,))


def _threads(device: Device) -> Parameter:
    most = cpu.threads(device)
    return Parameter("threads", tuple(sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})))
