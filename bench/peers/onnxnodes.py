"""onnxruntime on nodes of somebody's model: what runs there today, whatever operators they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

from fettle.bench.peers.rival import Rival
from fettle.graph.errors import Unsupported
from fettle.graph.graph import GraphNode
from fettle.graph.onnx.importer import Imported
from fettle.graph.onnx.protos import reads
from fettle.graph.operators.codes import CODES
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

NAME = "onnxruntime"

INSTALL = "pip install 'fettle-tuner[compare]'"

_COPIES = 16
_BYTES = 1 << 20
"""A session holds up to so many copies of the nodes, since a call costs it microseconds besides them; fewer where the
operands, of which it packs the constants for each copy, would not stay in a core's cache."""

_NEWEST_FORMAT = re.compile(r"max supported IR version: (\d+)")
_PLACES = re.compile(r"/onnxruntime_src/\S+ .*?\) (?=[A-Z])")
"""Where in its own source it gave up, with the function's whole signature: people look for what follows."""


def session(model: bytes, threads: int) -> Any:
    """A session of onnxruntime on so many threads.

    A model whose file format is newer than onnxruntime reads is given to it as one of the newest that it does: ``onnx``
    writes its own newest version into every model, whatever the model needs.

    Raises:
        Unsupported: it is not installed, or refuses the model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise Unsupported("onnxruntime is not installed", hint=INSTALL) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3

    def opened(text: bytes) -> Any:
        return onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])

    try:
        try:
            return opened(model)
        except Exception as error:
            newest = _NEWEST_FORMAT.search(str(error))
            if newest is None:
                raise
        lowered = ModelProto.FromString(model)
        lowered.ir_version = int(newest[1])
        return opened(lowered.SerializeToString())
    except Exception as error:  # its errors have no common class of their own
        reason = " ".join(_PLACES.sub("", str(error)).split())
        raise Unsupported(f"{NAME} refuses the model: {reason[:300]}") from error


def rival(imported: Imported, node: GraphNode, operands: Sequence[Operand], threads: int) -> tuple[Rival, int]:
    """The nodes of a model that a workload stands for, constants as initializers, inputs bound.

    Args:
        node: has a workload, and ``operands`` are in its order.

    Returns:
        The rival, and how often a call of it computes the workload.

    Raises:
        Unsupported: onnxruntime is not installed or refuses the nodes, or they are not what it would run.
    """
    assert node.workload is not None
    if node.workload.operator in ("conv2d", "matmul", "elementwise") and node.workload["act"].kind in CODES:
        raise Unsupported(
            "in a whole model onnxruntime has operators of its own for codes of 8 bits",
            hint="fettle run compares those",
        )
    constants, inputs = _arrays(imported, node, node.workload, operands)
    size = sum(array.nbytes for array in (*constants.values(), *inputs.values()))
    copies = max(1, min(_COPIES, _BYTES // max(size, 1)))
    runs = session(_model(imported, node, constants, inputs, copies), threads)
    binding = runs.io_binding()
    for name, array in inputs.items():
        for number in range(copies):
            binding.bind_cpu_input(_copy(name, number), array)
    for output in runs.get_outputs():
        binding.bind_output(output.name, "cpu")
    shape = node.workload.result.shape

    def result() -> np.ndarray:
        runs.run_with_iobinding(binding)
        return np.asarray(binding.copy_outputs_to_cpu()[0]).astype(np.float32).reshape(shape)

    return Rival(NAME, lambda: runs.run_with_iobinding(binding), result), copies


def _arrays(
    imported: Imported, node: GraphNode, workload: Workload, operands: Sequence[Operand]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tensor name -> value in the model's shape: constants, and inputs."""
    constants: dict[str, np.ndarray] = {}
    inputs: dict[str, np.ndarray] = {}
    for spec, names, operand in zip(workload.operands, node.inputs, operands, strict=True):
        parts = operand.to_matmul_nbits() if isinstance(operand, QuantizedWeight) else (operand,)
        for name, part in zip(names, (p for p in parts if p is not None), strict=True):
            kind = imported.types[name]
            assert kind.shape is not None
            (constants if spec.constant else inputs)[name] = part.reshape(kind.shape)
    return constants, inputs


def _model(
    imported: Imported, node: GraphNode, constants: Mapping[str, np.ndarray], inputs: Iterable[str], copies: int
) -> bytes:
    """So many copies of the node's nodes side by side, which share constants."""
    model = imported.model
    covered = [proto for proto in model.graph.node if proto.name in node.covers]
    own = {*inputs, *(name for proto in covered for name in proto.output if name)}
    taken_in = {name for proto in covered for name in reads(proto)} - own - constants.keys()
    fixed = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    fixed += [tensor for tensor in model.graph.initializer if tensor.name in taken_in]  # such as a scale
    nodes = []
    for number in range(copies):
        for proto in covered:
            copied = NodeProto()
            copied.CopyFrom(proto)
            copied.name = _copy(proto.name, number)
            for names in (copied.input, copied.output):
                names[:] = [_copy(name, number) if name in own else name for name in names]
            nodes.append(copied)

    def declared(names: Iterable[str]) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info(_copy(name, number), imported.types[name].element, imported.types[name].shape)
            for number in range(copies)
            for name in names
        ]

    graph = helper.make_graph(nodes, node.name, declared(inputs), declared(node.outputs), fixed)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return bytes(made.SerializeToString())


def _copy(name: str, number: int) -> str:
    return f"{name}#{number}"
