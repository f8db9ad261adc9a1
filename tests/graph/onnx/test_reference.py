"""Our MatMulNBits against onnxruntime's and against the formula; weights made up from a seed."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser

from fettle.graph.errors import InvalidGraph, Unsupported
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import fill_weights

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8


def nbits(bits: int, block: int, k: int, zero_points: str = "", accuracy: int = 0, bias: bool = False) -> ModelProto:
    """x[3, k] times a random weight [24, k]; zero_points is '', 'packed' or 'float'."""
    n, blocks, rng = 24, -(-k // block), np.random.default_rng(bits)
    constants = {
        "b": rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8),
        "s": (0.5 + rng.random((n, blocks))).astype(np.float32),
    }
    names = ["x", "b", "s"]
    if zero_points == "packed":
        constants["z"] = rng.integers(0, 256, (n, -(-blocks * bits // 8)), np.uint8)
    elif zero_points == "float":
        constants["z"] = rng.random((n, blocks)).astype(np.float32) * 8
    if bias:
        constants["bias"] = rng.standard_normal(n).astype(np.float32)
    names += ["z" if zero_points else "", *(["", "bias"] if bias else [])]
    while not names[-1]:
        names.pop()
    node = helper.make_node(
        "MatMulNBits", names, ["y"], domain="com.microsoft",
        K=k, N=n, bits=bits, block_size=block, accuracy_level=accuracy,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", FLOAT, [3, k])],
        [helper.make_tensor_value_info("y", FLOAT, [3, n])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def by_onnxruntime(model: ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: list[np.ndarray] = session.run(None, inputs)
    return result


def x(k: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((3, k)).astype(np.float32)


@pytest.mark.parametrize("zero_points", ["", "packed"])
@pytest.mark.parametrize(("bits", "block", "k"), [(4, 32, 128), (4, 16, 100), (8, 32, 128), (8, 64, 100), (2, 32, 128)])
def test_float32_results_are_those_of_onnxruntime(bits: int, block: int, k: int, zero_points: str) -> None:
    model = nbits(bits, block, k, zero_points)
    ours = evaluate(model, {"x": x(k)})["y"]
    (theirs,) = by_onnxruntime(model, {"x": x(k)})
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-3 * float(np.abs(theirs).max()))


def test_int8_activations_of_onnxruntime_are_near() -> None:
    model = nbits(4, 32, 128, accuracy=4)
    ours = evaluate(model, {"x": x(128)})["y"]
    (theirs,) = by_onnxruntime(model, {"x": x(128)})
    assert 0 < np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_floating_zero_points_and_bias_are_those_of_onnxruntime() -> None:
    for model in (nbits(4, 32, 128, "float"), nbits(4, 32, 128, "packed", bias=True)):
        ours = evaluate(model, {"x": x(128)})["y"]
        (theirs,) = by_onnxruntime(model, {"x": x(128)})
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-3 * float(np.abs(theirs).max()))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("zero_points", ["", "packed"])
def test_every_width_follows_the_formula(bits: int, zero_points: str) -> None:
    k, block = 40, 16
    model = nbits(bits, block, k, zero_points)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def field(row: np.ndarray, index: int) -> int:
        """Bits index·b … of a byte string, low bits first."""
        return int.from_bytes(row.tobytes(), "little") >> (index * bits) & ((1 << bits) - 1)

    dense = np.empty((24, k))
    for n in range(24):
        for j in range(k):
            group = j // block
            zero = field(arrays["z"][n], group) if zero_points else 1 << (bits - 1)
            dense[n, j] = float(arrays["s"][n, group]) * (field(arrays["b"][n].reshape(-1), j) - zero)
    expected = x(k).astype(np.float64) @ dense.T
    assert evaluate(model, {"x": x(k)})["y"] == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_operators_without_a_reference_are_unsupported() -> None:
    node = helper.make_node("Magic", ["x"], ["y"], domain="own")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", FLOAT, [1])], [helper.make_tensor_value_info("y", FLOAT, [1])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("own", 1)])
    with pytest.raises(Unsupported, match="Magic"):
        evaluate(model, {"x": np.zeros(1, np.float32)})


def test_missing_inputs_are_named() -> None:
    with pytest.raises(InvalidGraph, match="x"):
        evaluate(nbits(4, 32, 64), {})


def stripped() -> ModelProto:
    """The product with its weights as inputs."""
    model = nbits(4, 32, 1024)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del model.graph.initializer[:]
    helper.set_model_props(model, {"fettle.weights": json.dumps(["b", "s"]), "author": "me"})
    return model


def test_weights_follow_from_the_seed_and_become_initializers() -> None:
    first, again, other = (fill_weights(stripped(), seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [value.name for value in first.graph.input] == ["x"]
    assert {tensor.name for tensor in first.graph.initializer} == {"b", "s"}
    assert {entry.key: entry.value for entry in first.metadata_props} == {"author": "me"}
    onnx.checker.check_model(first)


def test_made_up_weights_keep_results_of_order_one() -> None:
    y = evaluate(fill_weights(stripped(), 0), {"x": x(1024)})["y"]
    assert 0.5 < y.std() < 2.0


def test_weights_of_unknown_shape_or_type_are_refused() -> None:
    model = stripped()
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "n"
    with pytest.raises(InvalidGraph, match="'b' has no fixed shape"):
        fill_weights(model, 0)
    model = stripped()
    model.graph.input[2].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(Unsupported, match="STRING"):
        fill_weights(model, 0)


@pytest.mark.parametrize("opset", [13, 18, 19])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_dequantize_linear_of_every_opset(axis: int | None, opset: int) -> None:
    """onnx's own reference has none before opset 19."""
    size = 1 if axis is None else (3, 4)[axis]
    scale, zero = np.linspace(0.5, 2.0, size, dtype=np.float32), np.arange(size, dtype=np.uint8) + 100
    x = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    shape = "" if axis is None else f"[{size}]"
    attribute = "" if axis is None else f"<axis = {axis}>"
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>'
        f"g (uint8[3,4] x, float{shape} s, uint8{shape} z) => (float[3,4] y)"
        f"{{ y = DequantizeLinear {attribute} (x, s, z) }}"
    )
    shaped = (lambda a: a.reshape(())) if axis is None else (lambda a: a)
    found = evaluate(proto, {"x": x, "s": shaped(scale), "z": shaped(zero)})["y"]
    for (i, j), code in np.ndenumerate(x):
        at = 0 if axis is None else (i, j)[axis]
        assert found[i, j] == np.float32(int(code) - int(zero[at])) * scale[at]


@pytest.mark.parametrize("opset", [9, 13, 14])
def test_batches_are_normalised_by_the_statistics_given_in_every_opset(opset: int) -> None:
    """onnx's own mixes those of the batch into them before opset 14."""
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]>'
        "g (float[4,2] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[4,2] y)"
        "{ y = BatchNormalization <epsilon = 0.25> (x, s, b, m, v) }"
    )
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    rows = {"s": [2.0, 3.0], "b": [1.0, -1.0], "m": [4.0, 0.0], "v": [0.75, 3.75]}
    found = evaluate(proto, {"x": x} | {name: np.array(row, np.float32) for name, row in rows.items()})["y"]
    np.testing.assert_allclose(found, np.stack([(x[:, 0] - 4) * 2 + 1, x[:, 1] * 1.5 - 1], axis=1), rtol=1e-6)
