"""Elementwise kernels: the expression over flat arrays, ``chunk`` elements per task.

sigmoid(x) = s / (s + s·e^-x) and silu(x) = x·s / (s + s·e^-x) with s = 2^-16, so that they keep their relative
accuracy where e^-x itself would overflow; tanh(x) = -m / (m + 2) with m = e^-2|x| - 1; erf(x) = x·p(x²) below 1, and
1 - e^(x·q(x)) beyond.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Candidate
from fettle.backends.cpu.rows.arrays import function, viewed
from fettle.backends.cpu.rows.exp import exp, expm1_negative, horner
from fettle.backends.cpu.rows.loops import sweep
from fettle.backends.cpu.rows.streaming import end_streaming, stream, streaming, until_aligned
from fettle.backends.cpu.rows.vectors import Vectors
from fettle.graph.expressions import Expression

DEGREE = 6
"""Of the exponential's polynomial: the least whose error the declared tolerance of every function covers."""

_SHIFT = -16
_SATURATED = -30.0
"""tanh is ±1 in float32 where -2|x| is below this."""
_MAGNITUDE = 0x7FFFFFFF

_ERF_NEAR = (
    1.1283791065216064, -0.3761262595653534, 0.1128358542919159, -0.026853810995817184, 0.005188327748328447,
    -0.0008010192541405559, 7.853857823647559e-05,
)  # fmt: skip
"""p: minimax of erf(√s) / √s for 0 < s ≤ 1, off by 0.02 u at most; fitted by reweighted least squares."""
_ERF_FAR = (
    -1.1286942958831787, -0.6349695324897766, -0.10653086751699448, 0.024010069668293, -0.003757476806640625,
    0.00035059204674325883, -1.3962444427306764e-05,
)  # fmt: skip
"""q: minimax of log(1 - erf(x)) / x for 1 ≤ x ≤ 4, likewise; beyond, erf is 1 in float32."""


def lower(candidate: Candidate) -> Any:
    """TensorIR of an elementwise candidate."""
    workload = candidate.workload
    shape = tuple(workload["shape"])
    names = [*(f"x{i}" for i in range(workload["expr"].arity)), "y"]
    formats = str(workload["act"]), str(workload["out"])
    return function([(name, shape) for name in names], partial(_body, candidate), *formats)


def _body(candidate: Candidate, *buffers: Any) -> None:
    act, out = str(candidate.workload["act"]), str(candidate.workload["out"])
    v = Vectors(candidate.device, act)
    results = v.of(out)
    schedule, expression = candidate.schedule, candidate.workload["expr"]
    size = math.prod(candidate.workload["shape"])
    *xs, y = [*(viewed(buffer, (size,), act) for buffer in buffers[:-1]), viewed(buffers[-1], (size,), out)]
    unroll, chunk, streams = schedule["unroll"], schedule["chunk"], schedule["stream"]

    def write(past_caches: bool, offset: Any, slot: int, mask: Any) -> None:
        value = evaluate(v, expression, [v.load(x, [offset], mask) for x in xs])
        if past_caches and mask is None:
            stream(y, offset, value)
        else:
            results.store(y, [offset], value, mask)

    with streaming(v, y, streams):
        head: Any = 0
        if streams:
            head = until_aligned(results, y, 0, size)
            with T.If(head > 0), T.Then():
                write(False, T.int64(0), 0, v.first(head))
        with v.tasks(-(-size // chunk), schedule["threads"]) as task:
            start = v.let(head + task * chunk)
            count = v.let(T.max(T.min(T.int64(chunk), T.int64(size) - start), T.int64(0)))
            sweep(v, count, unroll, partial(write, streams), start)
            if streams:
                end_streaming()


def evaluate(v: Vectors, expression: Expression, operands: list[Any]) -> Any:
    """The expression over vectors."""

    def apply(op: str, *args: Any) -> Any:
        a = args[0]
        match op:
            case "+":
                value = a + args[1]
            case "-":
                value = a - args[1]
            case "*":
                value = a * args[1]
            case "/":
                value = a / args[1]
            case "neg":
                value = v.constant(-0.0) - a
            case "abs":
                value = _magnitude(v, a)
            case "relu":
                value = v.where(v.constant(0.0) > a, v.constant(0.0), a)
            case "min":
                value = v.where(a > args[1], args[1], a)
            case "max":
                value = v.where(args[1] > a, args[1], a)
            case "round":
                value = v.round(a) if v.scales else _rounded(v, a)
            case "exp":
                value = exp(v, a, DEGREE)
            case "sigmoid":
                value = v.constant(2.0**_SHIFT) / _logistic_denominator(v, a)
            case "silu":
                value = a * v.constant(2.0**_SHIFT) / _logistic_denominator(v, a)
            case "tanh":
                value = _tanh(v, a)
            case "erf":
                value = _erf(v, a)
            case _:
                raise AssertionError(f"unknown function {op}")
        return v.let(value)

    return expression.fold(lambda i: operands[i], lambda c: v.let(v.constant(c)), apply)


def _magnitude(v: Vectors, x: Any) -> Any:
    return v.from_bits(T.bitwise_and(v.bits(x), v.integer(_MAGNITUDE)))


def _rounded(v: Vectors, x: Any) -> Any:
    """To the nearest whole number: float32 holds whole numbers alone from 2^23 on."""
    size, whole = v.let(_magnitude(v, x)), v.constant(2.0**23)
    near = v.let(v.let(size + whole) - whole)
    sign = T.bitwise_and(v.bits(x), v.integer(-(2**31)))
    return v.where(whole > size, v.from_bits(T.bitwise_or(v.bits(near), sign)), x)


def _logistic_denominator(v: Vectors, x: Any) -> Any:
    """2^-16·(1 + e^-x), which float32 holds until e^-x is beyond 2^143."""
    return v.let(v.constant(2.0**_SHIFT) + exp(v, v.let(v.constant(-0.0) - x), DEGREE, shift=_SHIFT))


def _tanh(v: Vectors, x: Any) -> Any:
    twice = v.let(v.constant(-2.0) * _magnitude(v, x))
    lowest = v.constant(_SATURATED)
    m = expm1_negative(v, v.let(v.where(lowest > twice, lowest, twice)), DEGREE)
    return _signed(v, v.let(m / (v.constant(-2.0) - m)), x)


def _erf(v: Vectors, x: Any) -> Any:
    size, one, last = v.let(_magnitude(v, x)), v.constant(1.0), v.constant(4.0)
    near = v.let(size * horner(v, v.let(size * size), _ERF_NEAR))
    clipped = v.let(v.where(size > last, last, size))
    exponent = v.let(clipped * horner(v, clipped, _ERF_FAR))
    far = v.let(one - exp(v, exponent, DEGREE, non_positive=True))
    return _signed(v, v.let(v.where(one > size, near, far)), x)


def _signed(v: Vectors, size: Any, x: Any) -> Any:
    """A magnitude with the sign of x."""
    sign = T.bitwise_and(v.bits(x), v.integer(-(2**31)))
    return v.from_bits(T.bitwise_or(T.bitwise_and(v.bits(size), v.integer(_MAGNITUDE)), sign))
