"""Spaces, defaults and features of the row operators. Needs no TVM.

algorithm    softmax only: three_pass, two_pass, online or pipelined (see softmax.py)
degree       softmax only: degree of the exponential's polynomial
split        softmax only: parts of a row, each a task of its own; keeps threads busy where there are few rows
unroll       vectors per loop step, each with its own accumulator
row_block    neighbouring rows interleaved in one task; helps short rows, whose reductions are all latency
chunk        softmax two_pass: values whose maximum is taken before they are summed; elementwise: values per task
stream       write results past the caches; f32 only
threads      threads that share the rows (elementwise: the chunks)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fettle.backends.api import Candidate, Constraint, Device, Parameter, Schedule, Space, Support, Value
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.rows.exp import BOUND, SLOPE_ERROR
from fettle.graph.operators.base import CONFIDENCE
from fettle.graph.workload import Workload

VERSION = "rows-3"

_LEAST_PART = 1024
"""Columns of a part of a row at least."""

_GOOD_PART = 8192
"""Columns from which on a part is worth the two parallel regions, which cost 2 µs."""

_GOOD_SHARE = 16384
"""Elements of a softmax from which on a thread is worth its start, which costs 2 µs."""

_SCRATCH_SHARE = 2
"""Part of the second-level cache that a row of exponentials may fill: rows of x pass through the rest."""

_LINE = 32
"""Elements of the narrowest format in a cache line."""


def supports(workload: Workload, device: Device) -> Support:
    """Formats whose conversions the device has."""
    if str(workload["act"]) == "f16" and "f16c" not in cpu.features(device):
        return Support.no("act=f16 needs the CPU feature f16c")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """Schedules of a softmax, rmsnorm, layernorm or elementwise workload."""
    if workload.operator == "elementwise":
        size = workload.result.size
        chunks = Parameter("chunk", tuple(c for c in (4096, 16384, 65536) if c < size) or (4096,))
        busy = Constraint(f"threads == 1 or (threads - 1) * chunk < {size}", "every thread has a task")
        return Space((chunks, _unroll(size, device), _stream(workload), _threads(device)), (busy,), VERSION)
    rows, cols = workload["rows"], workload["cols"]
    row_block = Parameter("row_block", tuple(b for b in (1, 2, 4) if rows % b == 0))
    threads = _threads(device)
    parameters = [_unroll(cols, device), row_block, _stream(workload), threads]
    constraints = [Constraint("unroll * row_block <= 8", "accumulators stay in registers")]
    shares = f"threads == 1 or threads * row_block <= {rows}"
    if workload.operator == "softmax":
        softmax, ruled = _softmax(workload, device, threads)
        parameters, constraints = [*softmax, *parameters], [*constraints, *ruled]
        shares += " * split"
    constraints.append(Constraint(shares, "every thread has a task"))
    return Space(parameters, constraints, VERSION)


def _softmax(workload: Workload, device: Device, threads: Parameter) -> tuple[list[Parameter], list[Constraint]]:
    """What softmax has beyond the other row operators."""
    rows, cols = workload["rows"], workload["cols"]
    # three passes keep exponentials in the result, which would round them twice where it is narrow
    algorithms = ["three_pass", "two_pass"] if str(workload["act"]) == "f32" else ["two_pass"]
    if rows >= 2 and 4 * cols <= cpu.cache_bytes(device, "L2") // _SCRATCH_SHARE:
        algorithms.append("pipelined")
    degrees = softmax_degrees(cols, lanes(device))
    chunks = Parameter("chunk", tuple(c for c in (1024, 4096) if c <= cols) or (1024,))
    counts = [int(count) for count in threads.choices if isinstance(count, int)]
    splits = tuple(s for s in counts if cols >= s * _LEAST_PART and (s - 1) * split_part(cols, s) < cols) or (1,)
    constraints = [
        Constraint("algorithm != 'three_pass' or not stream", "three passes read back what they write"),
        Constraint(f"algorithm == 'two_pass' or chunk == {chunks.choices[0]}", "only two passes have chunks"),
        Constraint(
            "split == 1 or (algorithm in ('two_pass', 'online') and row_block == 1 and split <= threads)",
            "parts are for idle threads, and have a maximum and a sum",
        ),
        Constraint(
            f"algorithm != 'pipelined' or (row_block == 1 and 2 * threads <= {rows})",
            "a pass works on up to three rows, and every thread has two",
        ),
    ]
    unrolls = [u for u in _unroll(cols, device).choices if isinstance(u, int)]
    online = [(d, u) for d in degrees for u in unrolls if online_fits(cols, lanes(device), d, u)]
    if online:
        algorithms.append("online")
        points = " or ".join(f"(degree == {degree} and unroll == {unroll})" for degree, unroll in online)
        constraints.append(Constraint(f"algorithm != 'online' or {points}", "the sum is within the tolerance"))
    parameters = [
        Parameter("algorithm", tuple(algorithms)),
        Parameter("degree", degrees),
        chunks,
        Parameter("split", splits),
    ]
    return parameters, constraints


def default(workload: Workload, device: Device) -> Schedule:
    """Every thread that gets work, of a softmax enough of it; four vectors a step where rows are long enough. Results
    are written past the caches where all tensors together fill more than half of the last one, which others share."""
    found = space(workload, device)
    values: dict[str, Value] = {parameter.name: parameter.choices[0] for parameter in found.parameters}
    choices = {
        parameter.name: [int(c) for c in parameter.choices if isinstance(c, int)] for parameter in found.parameters
    }
    values["unroll"] = max(unroll for unroll in choices["unroll"] if unroll <= 4)
    is_large = workload.nbytes > cpu.last_level_bytes(device) // 2
    values["stream"] = is_large and True in _stream(workload).choices
    tasks = -(-workload.result.size // choices["chunk"][0]) if workload.operator == "elementwise" else workload["rows"]
    if workload.operator == "softmax":
        algorithms = next(parameter.choices for parameter in found.parameters if parameter.name == "algorithm")
        values |= _untuned_softmax(workload, bool(values["stream"]), algorithms, choices)
        split = int(values["split"])
        tasks = tasks * split if split > 1 else min(tasks, max(1, workload.result.size // _GOOD_SHARE))
    values["threads"] = max(threads for threads in choices["threads"] if threads <= tasks)
    return Schedule(tuple(values.items()))


def _untuned_softmax(
    workload: Workload, streams: bool, algorithms: Sequence[Value], choices: Mapping[str, list[int]]
) -> dict[str, Value]:
    """Pipelined where every thread has two rows. Of fewer rows than threads, long ones are split."""
    rows, most = workload["rows"], choices["threads"][-1]
    values: dict[str, Value] = {"degree": 5}
    if rows < most:
        long = [parts for parts in choices["split"] if parts == 1 or workload["cols"] >= parts * _GOOD_PART]
        return values | {"split": max(long), "algorithm": "two_pass"}
    if "pipelined" in algorithms and rows >= 2 * most:
        return values | {"algorithm": "pipelined", "unroll": max(unroll for unroll in choices["unroll"] if unroll <= 2)}
    return values | ({"algorithm": "two_pass"} if streams else {})


def features(candidate: Candidate) -> Mapping[str, float]:
    """What a row kernel does per call and per thread; sizes as base-2 logarithms."""
    workload, schedule = candidate.workload, candidate.schedule
    operator = workload.operator
    size, threads = workload.result.size, schedule["threads"]
    algorithm = schedule.get("algorithm")
    three_pass, pipelined = algorithm == "three_pass", algorithm == "pipelined"
    width = workload.result.format.bits // 8
    row_bytes = width * (size if operator == "elementwise" else workload["cols"])
    reads = {"softmax": 3 if three_pass else 2, "rmsnorm": 2, "layernorm": 3, "elementwise": 0}[operator]
    writes = 2 if three_pass else 1
    if operator == "elementwise":
        reads = workload["expr"].arity
        step, tasks = schedule["chunk"], -(-size // schedule["chunk"])
    else:
        split = schedule.get("split", 1)
        step, tasks = workload["cols"] // split, workload["rows"] * split // schedule["row_block"]
        tasks = threads if pipelined else tasks
    block = schedule.get("row_block", 1)
    l1, l2 = cpu.cache_bytes(candidate.device, "L1d"), cpu.cache_bytes(candidate.device, "L2")
    return {
        "reads_per_value": float(reads),
        "writes_per_value": float(writes),
        "exponentials_per_value": float((1 if three_pass or pipelined else 2) if operator == "softmax" else 0),
        "log2_bytes_moved": math.log2(width * size * (reads + writes)),
        "log2_row_bytes": math.log2(row_bytes),
        "row_block_over_l1": width * step * block / l1 if l1 else 0.0,
        "row_block_over_l2": width * step * block / l2 if l2 else 0.0,
        "is_online": float(algorithm == "online"),
        "is_pipelined": float(pipelined),
        "split": float(schedule.get("split", 1)),
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
        spent = _spent(degree)
        chain = math.sqrt(cols / width + math.log2(width))
        return spent <= 16.0 or spent + CONFIDENCE * chain <= 16.0 + CONFIDENCE * math.sqrt(cols)

    return tuple(degree for degree in sorted(BOUND) if fits(degree))


def online_fits(cols: int, width: int, degree: int, unroll: int) -> bool:
    """Whether a sum that is rescaled at every value stays within softmax's declared tolerance.

    A sum that is multiplied by e^-δ again and again has a memory of 1/δ values; while it lasts, every factor's
    error counts, and equal factors have equal errors. P's slope at 0 is wrong by ``SLOPE_ERROR``, which those 1/δ
    factors make an error of that size whatever δ is; rounding adds at most u a step, not at random.
    """
    steps = cols / (width * unroll)
    systematic = _spent(degree) + SLOPE_ERROR[degree] + steps
    return systematic + CONFIDENCE * math.sqrt(steps + math.log2(width)) <= 16.0 + CONFIDENCE * math.sqrt(cols)


def split_part(cols: int, parts: int) -> int:
    """Columns of every part of a row but the last: whole cache lines, if the row starts on one."""
    return -(-cols // (parts * _LINE)) * _LINE


def _spent(degree: int) -> float:
    """Units of u for the exponentials, the division and the scaling."""
    return 2.0 * BOUND[degree] + 4.0


def _unroll(length: int, device: Device) -> Parameter:
    return Parameter("unroll", tuple(u for u in (1, 2, 4, 8) if u == 1 or u * lanes(device) <= length))


def _stream(workload: Workload) -> Parameter:
    return Parameter("stream", (False, True) if str(workload.result.format) == "f32" else (False,))


def _threads(device: Device) -> Parameter:
    return Parameter("threads", cpu.thread_counts(device))
