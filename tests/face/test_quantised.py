"""A network quantised to 8 bits by onnxruntime's tools, run with kernels over codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import fettle

SHAPE = (1, 6, 13, 13)


class Readings(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._left = [{"x": rng.standard_normal(SHAPE, np.float32)} for _ in range(3)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def network(path: Path) -> None:
    """A residual block of a pointwise, a depthwise and a pointwise convolution; a pool and a classifier."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        scale = np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array((rng.standard_normal(shape) / scale).astype(np.float32), name)

    weights = [weight("a", 12, 6, 1, 1), weight("b", 12, 1, 3, 3), weight("c", 6, 12, 1, 1), weight("d", 5, 6),
               weight("ab", 12), weight("bb", 12), weight("cb", 6), weight("db", 5)]  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "a", "ab"], ["1"]),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("Conv", ["2", "b", "bb"], ["3"], group=12, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["3"], ["4"]),
        helper.make_node("Conv", ["4", "c", "cb"], ["5"]),
        helper.make_node("Add", ["5", "x"], ["6"]),
        helper.make_node("MaxPool", ["6"], ["7"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["7"], ["8"]),
        helper.make_node("Flatten", ["8"], ["9"]),
        helper.make_node("Gemm", ["9", "d", "db"], ["y"], transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, SHAPE)], [value("y", TensorProto.FLOAT, [1, 5])], weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_quantised_network_gives_what_onnxruntime_gives(form: QuantFormat, tmp_path: Path) -> None:
    network(tmp_path / "plain.onnx")
    path = tmp_path / "quantised.onnx"
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(tmp_path / "plain.onnx", path, Readings(), quant_format=form, per_channel=True, **types)
    runtime = fettle.load(path, "cpu,threads=1", store=tmp_path / "store.sqlite3")
    assert runtime.slow == []
    x = np.random.default_rng(2).standard_normal(SHAPE, np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    steps = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if t.name == "y_scale"]
    assert np.abs(runtime({"x": x})["y"] - expected).max() <= 1.01 * float(steps[0].reshape(()))
