"""NumPy between kernels: the same numbers as onnxruntime, for any attributes, and no node left to the evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx_import import import_model
from fettle.runtime import GraphRuntime

FEW = settings(max_examples=30, deadline=None, derandomize=True)


def check(
    operator: str,
    x: np.ndarray,
    *constants: np.ndarray | None,
    opset: int = 21,
    outputs: int = 1,
    slow: int = 0,
    kinds: Sequence[str] = (),
    **attributes: Any,
) -> None:
    """One node beside onnxruntime; x is an input, other operands are constants; results have its type, or ``kinds``."""
    names = ["x", *("" if c is None else f"c{i}" for i, c in enumerate(constants))]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(operator, names, results, **attributes)
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    elements = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in kinds] or [element] * outputs
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", element, x.shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(results, elements, strict=True)],
        [numpy_helper.from_array(c, f"c{i}") for i, c in enumerate(constants) if c is not None],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    for declared, kind, right in zip(model.graph.output, elements, expected, strict=True):
        declared.CopyFrom(helper.make_tensor_value_info(declared.name, kind, right.shape))
    runtime = GraphRuntime(import_model(model.SerializeToString()), lambda workload: None)
    assert len(runtime.slow) == slow
    found = runtime({"x": x})
    for name, right in zip(results, expected, strict=True):
        assert found[name].dtype == right.dtype
        np.testing.assert_allclose(found[name], right, rtol=2e-5, atol=2e-6)
    again = runtime({"x": x})
    assert all((again[name] == found[name]).all() for name in results)


def numbers(*shape: int, dtype: str = "f4") -> np.ndarray:
    return (4.0 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    axes = draw(st.integers(1, 2))

    def each(least: int, most: int) -> list[int]:
        return [draw(st.integers(least, most)) for _ in range(axes)]

    size, dilations = each(1, 4), each(1, 2)
    attributes: dict[str, Any] = {"kernel_shape": size, "strides": each(1, 3), "dilations": dilations}
    automatic = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if automatic == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in size * 2]
        attributes["ceil_mode"] = draw(st.integers(0, 1)) if attributes["strides"] == [1] * axes else 0
    else:
        strides = [min(s, k) for s, k in zip(attributes["strides"], size, strict=True)]  # others fail in onnxruntime
        attributes |= {"auto_pad": automatic, "dilations": [1] * axes, "strides": strides}
    return (2, 3, *each(7, 12)), attributes


@FEW
@given(windows())
def test_the_largest_of_each_window(drawn: tuple[tuple[int, ...], dict[str, Any]]) -> None:
    shape, attributes = drawn
    check("MaxPool", numbers(*shape), **attributes)


@FEW
@given(windows(), st.integers(0, 1))
def test_the_mean_of_each_window(drawn: tuple[tuple[int, ...], dict[str, Any]], padded: int) -> None:
    shape, attributes = drawn
    check("AveragePool", numbers(*shape), count_include_pad=padded, **attributes)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_the_last_window_may_be_cut_off(operator: str) -> None:
    check(operator, numbers(1, 2, 8, 9), kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 0], ceil_mode=1)


@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [1, 4]])
def test_whole_numbers_are_pooled_too(strides: list[int]) -> None:
    check("MaxPool", numbers(1, 2, 6, 5, dtype="i1"), kernel_shape=[3, 2], pads=[1, 1, 1, 0], strides=strides)


def test_a_pool_whose_padding_alone_meets_a_tap_looks_at_the_image() -> None:
    check("MaxPool", -abs(numbers(1, 2, 2, 2)) - 1, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])


@FEW
@given(
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"]),
    st.sampled_from(["linear", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
)
def test_images_are_resized_to_any_size(coordinates: str, mode: str, sizes: tuple[int, int]) -> None:
    attributes: dict[str, Any] = {"coordinate_transformation_mode": coordinates, "mode": "linear"}
    if mode != "linear":
        attributes |= {"mode": "nearest", "nearest_mode": mode}
    check("Resize", numbers(2, 3, 5, 6), None, None, np.array([2, 3, *sizes]), **attributes)


@pytest.mark.parametrize("scales", [(1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 0.6, 1.7), (1.0, 1.0, 1.0, 1.0)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_images_are_resized_by_any_factor(scales: tuple[float, ...], mode: str) -> None:
    x, factors = numbers(2, 3, 5, 7), np.array(scales, np.float32)
    check("Resize", x, None, factors, mode=mode)
    if min(scales) >= 1:
        check("Resize", x, factors, mode=mode, opset=10)
        check("Upsample", x, factors, mode=mode, opset=9)


def test_a_cubic_resize_is_left_to_the_evaluator() -> None:
    check("Resize", numbers(1, 1, 4, 4), None, np.array([1, 1, 2, 2], np.float32), mode="cubic", slow=1)


PADS = np.array([0, 1, 2, 0, 0, 0, 1, 3])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_images_are_padded(mode: str) -> None:
    check("Pad", numbers(2, 3, 4, 5), PADS, mode=mode)


def test_negative_pads_cut() -> None:
    check("Pad", numbers(2, 3, 4, 5), np.array([0, -1, 2, -3, 0, 0, -2, 1]))


def test_slices_backwards_begin_inside() -> None:
    check("Slice", numbers(3, 4), np.array([-7, 9]), np.array([-99, -99]), np.array([0, 1]), np.array([-1, -2]))


def test_pads_of_some_axes_hold_the_value_given() -> None:
    check("Pad", numbers(2, 3, 4), np.array([1, 2]), np.array(0.5, np.float32), np.array([-1]))
    check("Pad", numbers(2, 3, 4), pads=[0, 0, 1, 0, 2, 0], value=-1.5, opset=9)


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("axes", [[2, 3], [-1], [0, 2], [1], []])
@pytest.mark.parametrize("keep", [0, 1])
def test_axes_are_reduced(operator: str, axes: list[int], keep: int) -> None:
    check(operator, 0.25 * numbers(2, 3, 4, 5), np.array(axes, np.int64), keepdims=keep)


def test_axes_of_old_reductions_are_attributes() -> None:
    check("ReduceMean", numbers(2, 3, 4), axes=[1, 2], keepdims=0, opset=11)
    check("ReduceSum", numbers(2, 3, 4), np.array([], np.int64), noop_with_empty_axes=1)


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 7)])
def test_whole_images_are_pooled(operator: str, shape: tuple[int, ...]) -> None:
    check(operator, numbers(*shape))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_parts_of_a_split_are_copied(axis: int) -> None:
    check(
        "Split",
        numbers(4, 5, 3),
        np.array([1, 2] if axis % 3 == 2 else [2, 2] if axis == 0 else [1, 4]),
        axis=axis,
        outputs=2,
    )
    check("Split", numbers(4, 7), axis=1, num_outputs=3, outputs=3)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_become_blocks(mode: str) -> None:
    check("DepthToSpace", numbers(2, 12, 3, 5), blocksize=2, mode=mode)


def test_blocks_become_channels() -> None:
    check("SpaceToDepth", numbers(2, 3, 4, 6), blocksize=2)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"])
def test_operands_are_broadcast(operator: str) -> None:
    check(operator, numbers(2, 3, 4), numbers(3, 1))


@pytest.mark.parametrize(
    "operator", ["Sqrt", "Exp", "Erf", "Floor", "Ceil", "Round", "Reciprocal", "Sin", "Relu", "Neg"]
)
def test_functions_of_one_tensor(operator: str) -> None:
    check(operator, np.abs(numbers(2, 30)) + np.float32(0.5) if operator == "Sqrt" else numbers(2, 30))


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0])
def test_powers(exponent: float) -> None:
    check("Pow", np.abs(numbers(2, 30)), np.array(exponent, np.float32))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_batches_are_normalised(shape: tuple[int, ...], dtype: str) -> None:
    scale, offset, mean = numbers(3, 3, dtype=dtype)
    x = numbers(*shape, dtype=dtype)
    check("BatchNormalization", x, scale, offset, mean, np.abs(mean), epsilon=0.01)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_distributions_over_any_axis(axis: int) -> None:
    x = numbers(3, 4, 5)
    check("Softmax", x, axis=axis)
    check("LogSoftmax", x, axis=axis)


@pytest.mark.parametrize("operator", ["ReduceL1", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_norms(operator: str, keepdims: int) -> None:
    check(operator, numbers(3, 4, 5), np.array([-1]), keepdims=keepdims)
    check(operator, numbers(3, 4, 5), np.array([0, 2]), keepdims=keepdims)
    check(operator, numbers(3, 4), keepdims=keepdims)
    check(operator, numbers(3, 4, 5), np.array([0, 2]), keepdims=keepdims, noop_with_empty_axes=1)


@pytest.mark.parametrize("operator", ["Softplus", "Atan", "Sinh"])
def test_functions_that_expressions_lack(operator: str) -> None:
    check(operator, numbers(40))


def test_softplus_of_large_numbers() -> None:
    check("Softplus", np.array([-200.0, 200.0], np.float32))


@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_remainders_have_the_sign_of_the_divisor_or_of_the_dividend(dtype: str) -> None:
    x, by = np.arange(-9, 9).astype(dtype), np.array([4, -4] * 9, dtype)
    check("Mod", x, by)
    check("Mod", x, by, fmod=1)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_elements_are_scattered(reduction: str) -> None:
    places = np.array([[4, 1, -2], [0, 3, 2]])
    check("ScatterElements", numbers(3, 5), places, numbers(2, 3), axis=1, reduction=reduction)
    check("ScatterND", numbers(4, 5), np.array([[2], [0]]), numbers(2, 5), reduction=reduction)
    check("ScatterND", numbers(4, 5), np.array([[2, 1], [0, -1]]), numbers(2), reduction=reduction)


def test_updates_of_one_place_are_all_added() -> None:
    check("ScatterND", numbers(4), np.array([[1], [1], [3]]), numbers(3), reduction="add")


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_places_of_extremes(operator: str, keepdims: int) -> None:
    check(operator, numbers(4, 6), axis=1, keepdims=keepdims, kinds=["i8"])


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", ["f4", "i8"])
def test_the_first_of_a_sorted_axis(largest: int, dtype: str) -> None:
    x = numbers(3, 7, dtype=dtype)
    check("TopK", x, np.array([4]), axis=1, largest=largest, outputs=2, kinds=[dtype, "i8"])
    check("TopK", x, np.array([2]), axis=0, largest=largest, outputs=2, kinds=[dtype, "i8"])


def test_the_least_integer_is_the_last() -> None:
    x = np.array([3, np.iinfo(np.int64).min, -5])
    check("TopK", x, np.array([3]), outputs=2, kinds=["i8", "i8"])


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [1, 1]},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]},
        {"kernel_shape": [2, 3], "dilations": [2, 1], "ceil_mode": 1, "strides": [1, 2]},
    ],
)
def test_largest_elements_of_windows_and_where_they_are(attributes: dict[str, Any]) -> None:
    check("MaxPool", numbers(2, 3, 7, 8), outputs=2, kinds=["f4", "i8"], **attributes)


@pytest.mark.parametrize("node", ["y = MaxPool", "y, i = MaxPool", "y = AveragePool"])
def test_windows_after_the_image_which_inference_counts_are_refused(node: str) -> None:
    attributes = "<kernel_shape = [1, 1], strides = [1, 3], ceil_mode = 1>"
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 21]>'
        f"g (float[1,1,6,6] x) => (float[a,b,c,d] y) {{ {node} {attributes} (x) }}"
    )
    with pytest.raises(InvalidGraph, match="begins after the image"):
        GraphRuntime(import_model(model.SerializeToString()), lambda workload: None)


def test_padding_is_no_place_of_a_largest_element() -> None:
    x = np.zeros((1, 2, 3, 3), np.uint8)
    check("MaxPool", x, outputs=2, kinds=["u1", "i8"], kernel_shape=[2, 2], pads=[1, 1, 1, 1])


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_no_images_are_pooled_to_none(pads: list[int]) -> None:
    check("MaxPool", numbers(0, 3, 4, 4), outputs=2, kinds=["f4", "i8"], kernel_shape=[2, 2], pads=pads)
    check("MaxPool", numbers(0, 3, 4, 4), kernel_shape=[2, 2], pads=pads)
    check("AveragePool", numbers(0, 3, 4, 4), kernel_shape=[2, 2], pads=pads)


def test_products_of_broadcast_batches_and_long_floats() -> None:
    check("MatMul", numbers(2, 3, 4, 5), numbers(3, 5, 6))
    check("MatMul", numbers(4, 5, dtype="f8"), numbers(5, 6, dtype="f8"))
    check("Einsum", numbers(4, 5), numbers(5, 6), numbers(6, 4), equation="ij,jk,ki->ik")


def test_bounds_of_whole_numbers() -> None:
    check("Clip", numbers(40, dtype="i4"), np.array(-2, np.int32), np.array(3, np.int32))
    check("Clip", numbers(40, dtype="i4"), None, np.array(3, np.int32))


def test_values_that_change_are_left_to_the_evaluator() -> None:
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "pads"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("pads", TensorProto.INT64, [4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    runtime = GraphRuntime(import_model(model.SerializeToString()), lambda workload: None)
    assert runtime.slow == ["Pad_0"]
    x = numbers(2, 3)
    for pads in ([0, 1, 0, 0], [1, 0, 2, 1]):
        found = runtime({"x": x, "pads": np.array(pads)})["y"]
        assert np.array_equal(found, np.pad(x, (pads[::2], pads[1::2])))


@pytest.mark.parametrize(
    ("operator", "constant", "attributes"),
    [
        ("Gather", np.array([7]), {}),
        ("GatherND", np.array([[0, 9]]), {}),
        ("GatherElements", np.array([[9, 9, 9]]), {}),
        ("CumSum", np.array(3), {}),
        ("Pad", np.array([0, 0, 0, 1]), {"mode": "sideways"}),
    ],
)
def test_operands_out_of_range_are_named_by_their_node(
    operator: str, constant: np.ndarray, attributes: dict[str, Any]
) -> None:
    node = helper.make_node(operator, ["x", "c"], ["y"], name="wrong", **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [2, 3])], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(constant, "c")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    shape = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
    model.graph.output[0].type.tensor_type.shape.CopyFrom(shape)
    with pytest.raises(InvalidGraph, match="wrong"):
        GraphRuntime(import_model(model.SerializeToString()), lambda workload: None).run()
