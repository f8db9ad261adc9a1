"""Elementwise expressions: a canonical text, a value, and a bound that a float32 evaluation keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.graph.errors import InvalidWorkload
from fettle.graph.expressions import FUNCTIONS, Expression


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})")
    unary = inner.map(lambda a: f"-({a})")
    called = st.tuples(st.sampled_from(sorted(set(FUNCTIONS) - {"exp"})), inner).map(lambda t: f"{t[0]}({t[1]})")
    extreme = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})")
    return binary | unary | called | extreme


LEAVES = st.sampled_from(["x0", "x1", "2", "0.5", "-1.25"])
TEXTS = st.recursive(LEAVES, _combine, max_leaves=8).map(lambda text: f"x0 + x1 * ({text})")
F32_FUNCTIONS = {
    "relu": lambda x: np.maximum(x, np.float32(0)),
    "sigmoid": lambda x: np.float32(1) / (np.float32(1) + np.exp(-x)),
    "silu": lambda x: x / (np.float32(1) + np.exp(-x)),
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "abs": np.abs,
    "round": np.rint,
}


def in_float32(expression: Expression, operands: list[np.ndarray]) -> np.ndarray:
    """Every step rounded to float32."""
    arithmetic = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "neg": np.negative, **F32_FUNCTIONS}
    arithmetic |= {"min": np.minimum, "max": np.maximum}
    result: np.ndarray = expression.fold(
        lambda i: operands[i], np.float32, lambda op, *args: arithmetic[op](*args).astype(np.float32)
    )
    return result


@given(TEXTS)
def test_canonical_text_is_a_fixed_point(text: str) -> None:
    once = Expression.parse(text)
    assert Expression.parse(once.text) == once
    assert " " not in once.text


@pytest.mark.parametrize(
    ("text", "canonical", "arity", "operations"),
    [
        ("silu( x0 )*x1", "silu(x0)*x1", 2, 2),
        ("((x0+x1))", "x0+x1", 2, 1),
        ("x0 * 1e-2", "x0*0.01", 1, 1),
        ("-x0/(x1-2)", "-x0/(x1-2)", 2, 3),
        ("min(max(x0, 0), x1)", "min(max(x0,0),x1)", 2, 2),
    ],
)
def test_spellings_meet_in_one_text(text: str, canonical: str, arity: int, operations: int) -> None:
    expression = Expression.parse(text)
    assert (expression.text, expression.arity, expression.operations) == (canonical, arity, operations)


@settings(max_examples=60)
@given(TEXTS, st.integers(0, 2**32))
def test_float32_evaluation_keeps_the_bound(text: str, seed: int) -> None:
    expression = Expression.parse(text)
    operands = list(np.random.default_rng(seed).standard_normal((2, 64)).astype(np.float32))
    value, bound = expression.evaluate_with_bound([o.astype(np.float64) for o in operands])
    error = np.abs(in_float32(expression, operands) - value)
    assert (error <= bound + 2.0**-24 * np.abs(value) + 2.0**-125).all()


def test_bound_is_tight_enough_to_notice_a_wrong_function() -> None:
    x = np.linspace(-4, 4, 101)
    value, bound = Expression.parse("silu(x0)").evaluate_with_bound([x])
    assert value == pytest.approx(x / (1 + np.exp(-x)))
    assert bound.max() < 1e-5
    gelu = x / (1 + np.exp(-1.702 * x))
    assert (np.abs(gelu - value) > bound).mean() > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x0 +",
        "1 + 2",
        "x1",
        "x0 + x2",
        "x16",
        "x00",
        "y",
        "x0 ** 2",
        "x0 if x1 else x2",
        "__import__('os')",
        "x0.real",
        "silu(x0, x1)",
        "silu(x=x0)",
        "x0 + True",
        "x0 + 1j",
        "x0 * 1e400",
        "x0 + '1'",
        "-" * 3000 + "x0",
        "(" * 300 + "x0" + ")" * 300,
        "+".join(["x0"] * 400),
        "x0 + " + "9" * 5000,
        "x0\0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Expression.parse(text)
