"""Peers: what people run today for the same workload, as callables on the same data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fettle.graph.errors import Unsupported
from fettle.graph.quantized import QuantizedWeight


def onnxruntime_matmul_nbits(
    x: np.ndarray, weight: QuantizedWeight, threads: int
) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
    """onnxruntime's MatMulNBits at accuracy level 4 (int8 activations), weights bound as initializers.

    Scales are float32 for it, since its CPU kernel takes the scale type of the activations.

    Returns:
        A function to time (results stay inside onnxruntime), and one that returns the result.

    Raises:
        Unsupported: onnxruntime is not installed, or does not have this format.
    """
    try:
        import onnxruntime
    except ImportError:
        raise Unsupported("the peer onnxruntime is not installed", hint="pip install '.[dev]'") from None
    from onnx import TensorProto, helper, numpy_helper

    n, k = weight.shape
    if weight.format.kind not in ("u2", "u4", "u8"):
        raise Unsupported(f"onnxruntime has no MatMulNBits for {weight.format}")
    packed, scales, zero_points = weight.to_matmul_nbits()
    weights = [
        numpy_helper.from_array(packed, "B"),
        numpy_helper.from_array(scales.astype(np.float32).reshape(-1), "S"),
    ]
    if zero_points is not None:
        weights.append(numpy_helper.from_array(zero_points.reshape(-1), "Z"))
    node = helper.make_node(
        "MatMulNBits",
        ["x", *(w.name for w in weights)],
        ["y"],
        domain="com.microsoft",
        K=k,
        N=n,
        bits=weight.format.bits,
        block_size=weight.group,
        accuracy_level=4,
    )
    graph = helper.make_graph(
        [node],
        "peer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (x.shape[0], n))],
        weights,
    )
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", np.ascontiguousarray(x))
    binding.bind_output("y", "cpu")
    return lambda: session.run_with_iobinding(binding), lambda: session.run(None, {"x": x})[0]
