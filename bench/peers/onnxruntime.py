"""onnxruntime's kernels for quantised weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.bench.peers.onnxnodes import session as open_session
from fettle.bench.peers.rival import Rival
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload


def matmul_nbits(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """MatMulNBits at accuracy level 4 (int8 activations), weights bound as initializers.

    Scales are float32 for it, since its CPU kernel takes the scale type of the activations. Timed calls leave
    results inside onnxruntime.

    Raises:
        Unsupported: onnxruntime is not installed, or does not have this format.
    """
    x, weight = operands[0], operands[1] if len(operands) > 1 else None
    if not isinstance(weight, QuantizedWeight) or not isinstance(x, np.ndarray):
        return []
    if weight.format.kind not in ("u2", "u4", "u8"):
        raise Unsupported(f"onnxruntime has no MatMulNBits for {weight.format}")
    session = open_session(_model(x, weight), threads)
    binding = session.io_binding()
    binding.bind_cpu_input("x", np.ascontiguousarray(x))
    binding.bind_output("y", "cpu")
    bits = weight.format.bits + 32 / weight.group
    return [
        Rival(
            f"onnxruntime MatMulNBits {weight.format.bits}-bit",
            lambda: session.run_with_iobinding(binding),
            lambda: np.asarray(session.run(None, {"x": x})[0]),
            bits,
        )
    ]


def _model(x: np.ndarray, weight: QuantizedWeight) -> bytes:
    """A model of one node."""
    from onnx import TensorProto, helper, numpy_helper

    n, k = weight.shape
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
    return bytes(helper.make_model(graph, opset_imports=domains, ir_version=10).SerializeToString())
