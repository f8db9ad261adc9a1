"""NumPy calls between kernels give what ONNX's reference evaluator gives, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from fettle.glue.dispatch import prepare
from fettle.graph.onnx.reference import evaluator

SETTINGS = settings(max_examples=15, deadline=None)
FLOATS = [np.float32, np.float64, np.float16]
NUMBERS = [*FLOATS, np.int64, np.int32, np.uint8]
RNG = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def expected(node: NodeProto, inputs: list[np.ndarray]) -> np.ndarray:
    graph = helper.make_graph([node], "g", [], [])
    graph.input.extend(ValueInfoProto(name=name) for name in node.input)
    graph.output.extend(ValueInfoProto(name=name) for name in node.output)
    model = ModelProto(ir_version=10, opset_import=[helper.make_opsetid("", 20)], graph=graph)
    with np.errstate(all="ignore"):
        (result,) = evaluator(model).run(None, dict(zip(node.input, inputs, strict=True)))
    return np.asarray(result)


def check(operator: str, inputs: list[np.ndarray], constant: tuple[int, ...] = (), **attributes: Any) -> None:
    """Prepare a call, change the inputs that are no constants in place, call it twice, and compare."""
    names = [f"i{number}" for number in range(len(inputs))]
    node = helper.make_node(operator, names, ["y"], **attributes)
    want = expected(node, inputs)
    places = [array.copy() if i in constant else np.zeros_like(array) for i, array in enumerate(inputs)]
    out = np.ones(want.shape, want.dtype)
    call = prepare(node, places, {names[i]: inputs[i] for i in constant if i < len(names)}, [out])
    assert call is not None
    for place, array in zip(places, inputs, strict=True):
        place[...] = array
    with np.errstate(all="ignore"):
        call()
        call()
    np.testing.assert_array_equal(out, want, strict=True)


def refuses(operator: str, inputs: list[np.ndarray], out: np.ndarray, **attributes: Any) -> bool:
    names = [f"i{number}" for number in range(len(inputs))]
    return prepare(helper.make_node(operator, names, ["y"], **attributes), inputs, {}, [out]) is None


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind == "f":
        values = (3.0 * rng.standard_normal(shape)).astype(dtype)
        return np.where(rng.random(shape) < 0.1, rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0]), values).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


@st.composite
def broadcast(draw: st.DrawFn, count: int) -> list[tuple[int, ...]]:
    """Shapes that are broadcast together."""
    whole = draw(st.lists(st.integers(1, 4), min_size=0, max_size=4))
    shapes = []
    for _ in range(count):
        extents = [draw(st.sampled_from([1, extent])) for extent in whole]
        shapes.append(tuple(extents[draw(st.integers(0, len(extents))) :]))
    return shapes


ARITHMETIC = ["Add", "Sub", "Mul", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]


@pytest.mark.parametrize("operator", [*ARITHMETIC, "Div", "Pow", "And", "Or", "Xor"])
@SETTINGS
@given(broadcast(2), RNG, st.data())
def test_two_operands_are_broadcast(
    operator: str, shapes: list[tuple[int, ...]], rng: np.random.Generator, data: st.DataObject
) -> None:
    kinds = NUMBERS if operator in ARITHMETIC else [np.bool_] if operator in ("And", "Or", "Xor") else FLOATS[:2]
    dtype = data.draw(st.sampled_from(kinds))
    check(operator, [drawn(rng, shape, dtype) for shape in shapes])


@pytest.mark.parametrize(
    "operator", ["Neg", "Abs", "Sqrt", "Reciprocal", "Cos", "Sin", "Floor", "Ceil", "IsNaN", "Not"]
)
@SETTINGS
@given(broadcast(1), RNG)
def test_one_operand(operator: str, shapes: list[tuple[int, ...]], rng: np.random.Generator) -> None:
    check(operator, [drawn(rng, shapes[0], np.bool_ if operator == "Not" else np.float32)])


@SETTINGS
@given(broadcast(3), RNG, st.sampled_from([np.float32, np.int64, np.bool_]))
def test_where(shapes: list[tuple[int, ...]], rng: np.random.Generator, dtype: Any) -> None:
    check("Where", [drawn(rng, shapes[0], np.bool_), drawn(rng, shapes[1], dtype), drawn(rng, shapes[2], dtype)])


CASTS = [np.bool_, np.int32, np.int64, np.float32, np.float16]


@SETTINGS
@given(RNG, st.sampled_from(CASTS), st.sampled_from(CASTS))
def test_casts(rng: np.random.Generator, before: Any, after: Any) -> None:
    x = drawn(rng, (3, 4), before)
    if np.dtype(before).kind == "f" and np.dtype(after).kind == "i":
        x = np.nan_to_num(x, nan=1.5, posinf=-2.5, neginf=7.9)  # the others are undefined
    check("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(after)))


@SETTINGS
@given(RNG, st.integers(1, 3), st.booleans())
def test_gather_nd(rng: np.random.Generator, depth: int, is_constant: bool) -> None:
    lead = (3, 4, 5)[:depth]
    indices = np.stack([rng.integers(-size, size, (2, 6)) for size in lead], axis=-1)
    check("GatherND", [drawn(rng, (3, 4, 5), np.bool_), indices], constant=(1,) if is_constant else ())


@SETTINGS
@given(RNG, st.integers(-2, 1))
def test_gather_elements(rng: np.random.Generator, axis: int) -> None:
    shape = (4, 7) if axis % 2 else (7, 5)
    check("GatherElements", [drawn(rng, (4, 5), np.float32), rng.integers(-4, 4, shape)], axis=axis)


@SETTINGS
@given(RNG, st.integers(-2, 1), st.sampled_from([np.float32, np.int64]))
def test_cumsum(rng: np.random.Generator, axis: int, dtype: Any) -> None:
    check("CumSum", [drawn(rng, (4, 5), dtype), np.array(axis)], constant=(1,))


@SETTINGS
@given(RNG, st.integers(-6, 6), st.booleans())
def test_trilu(rng: np.random.Generator, offset: int, upper: bool) -> None:
    check("Trilu", [rng.random((2, 4, 5), np.float32), np.array(offset)], constant=(1,), upper=int(upper))


def test_trilu_of_truths() -> None:
    check("Trilu", [np.ones((4, 4), np.bool_)], upper=0)


def test_forms_that_numpy_has_otherwise_are_left_to_the_reference_evaluator() -> None:
    whole, half = np.arange(4), np.ones(4, np.float32)
    assert refuses("Div", [whole, whole], whole)  # ONNX rounds towards zero
    assert refuses("Pow", [half, whole], half)
    assert refuses("GatherND", [half.reshape(2, 2), whole.reshape(4, 1)], half, batch_dims=1)
    assert refuses("CumSum", [half, np.array(0)], half)  # the axis may change
    assert refuses("Trilu", [half.reshape(2, 2), np.array(0)], half)
