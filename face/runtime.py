"""Executes an imported model: nodes with a workload by a kernel, the others by onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.arena import Types, lay_out
from fettle.graph.errors import InvalidArgument, InvalidGraph, Unsupported
from fettle.graph.graph import GraphNode
from fettle.graph.onnx.fuse import CONSTANT
from fettle.graph.onnx.importer import Imported
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.reference import evaluator
from fettle.graph.onnx.weightlist import weight_names
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

BoundKernel = Callable[[Sequence[np.ndarray], np.ndarray], np.ndarray]
"""A kernel with its constants packed: takes the other operands and the array for the result, and returns that."""

Tensors = dict[str, np.ndarray]


class CallableKernel(Protocol):
    """What the runtime needs of a kernel."""

    def bind(self, constants: Sequence[Operand]) -> BoundKernel:
        """Pack the workload's constant operands, in order; the result takes the others, C-contiguous."""
        ...


@attrs.frozen
class _Step:
    """One graph node, ready to run on the tensors so far."""

    node: GraphNode
    run: Callable[[Tensors], Sequence[np.ndarray]]
    last_uses: tuple[str, ...]


class GraphRuntime:
    """An imported model with a kernel for every workload. Not safe for concurrent calls: they share an arena.

    Constants are evaluated and packed here, once, and the tensors between nodes get their places: kernels write into
    the arena, results of the reference evaluator are copied there.

    Attributes:
        arena: where tensors lie.

    Args:
        imported: a model with its weights in memory (see :meth:`Imported.filled`).
        kernels: the kernel of a workload, or None to leave it to the reference evaluator; asked once per
            distinct workload.

    Raises:
        InvalidGraph: a weight is missing.
        Unsupported: a node without a kernel has no reference implementation.
    """

    def __init__(self, imported: Imported, kernels: Callable[[Workload], CallableKernel | None]) -> None:
        self._types = imported.types
        self._inputs = tuple(value.name for value in imported.model.graph.input)
        self._outputs = tuple(value.name for value in imported.model.graph.output)
        self._constants = _initializers(imported)
        nodes = {node.name: node for node in imported.model.graph.node}
        chosen: dict[Workload, CallableKernel | None] = {}
        runs: list[tuple[GraphNode, Callable[[Tensors], Sequence[np.ndarray]]]] = []
        for node in imported.graph.nodes:
            if node.workload is not None:
                if node.workload not in chosen:
                    chosen[node.workload] = kernels(node.workload)
                kernel = chosen[node.workload]
                if kernel is not None:
                    runs.append((node, self._bind(node, node.workload, kernel)))
                    continue
            covered = [nodes[name] for name in node.covers]
            _check_known(node, covered)
            run = _reference(covered, imported)
            if node.reason == CONSTANT:
                self._constants.update(zip(node.outputs, run(self._constants), strict=True))
            else:
                runs.append((node, run))
        self._steps = _with_last_uses(runs, {*self._outputs, *self._constants})
        self.arena = lay_out([(step.node.outputs, step.last_uses) for step in self._steps], _static(imported))

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name, freshly allocated.

        Raises:
            InvalidArgument: an input is missing, unknown, or has the wrong shape or type.
        """
        self._check(inputs)
        tensors: Tensors = {**self._constants, **inputs}
        for step in self._steps:
            for name, array in zip(step.node.outputs, step.run(tensors), strict=True):
                tensors[name] = self._placed(name, array)
            for name in step.last_uses:
                del tensors[name]
        return {name: np.array(tensors[name]) for name in self._outputs}

    def _placed(self, name: str, array: np.ndarray) -> np.ndarray:
        """A tensor at its place; where it is if it has none, or is not what was foreseen."""
        place = self.arena.views.get(name)
        if place is None or (place.shape, place.dtype) != (array.shape, array.dtype):
            return array
        if array.ctypes.data != place.ctypes.data:
            place[...] = array
        return place

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name in inputs:
            if name not in self._inputs:
                raise InvalidArgument(f"the model has no input {name!r}", hint=f"its inputs: {' '.join(self._inputs)}")
        for name in self._inputs:
            if name not in inputs:
                raise InvalidArgument(f"input {name!r} is missing")
            array, kind = inputs[name], self._types[name]
            dtype = helper.tensor_dtype_to_np_dtype(kind.element)
            if array.shape != kind.shape or array.dtype != dtype:
                raise InvalidArgument(f"input {name!r} is {array.dtype} {array.shape}, expected {dtype} {kind.shape}")

    def _bind(
        self, node: GraphNode, workload: Workload, kernel: CallableKernel
    ) -> Callable[[Tensors], Sequence[np.ndarray]]:
        pairs = list(zip(workload.operands, node.inputs, strict=True))
        constants: list[Operand] = []
        for spec, names in pairs:
            if not spec.constant:
                continue
            arrays = [self._constants[name] for name in names]
            if spec.format.is_quantised:
                constants.append(
                    QuantizedWeight.from_matmul_nbits(
                        arrays[0], arrays[1], arrays[2] if len(arrays) > 2 else None,
                        bits=spec.format.bits, block=int(spec.format.group or 0), k=spec.shape[1],
                    )
                )  # fmt: skip
            else:
                constants.append(np.ascontiguousarray(arrays[0]).reshape(spec.shape))
        bound = kernel.bind(constants)
        free = [(names[0], spec.shape) for spec, names in pairs if not spec.constant]
        (result,) = node.outputs
        shape, dtype = workload.result.shape, workload.result.format.dtype
        kind = self._types.get(result)  # none of what a pass over the graph added
        wanted = shape if kind is None else kind.shape
        assert wanted is not None

        def run(tensors: Tensors) -> Sequence[np.ndarray]:
            arrays = [np.ascontiguousarray(tensors[name]).reshape(extents) for name, extents in free]
            place = self.arena.views.get(result)
            out = np.empty(shape, dtype) if place is None else place.reshape(shape)
            return (bound(arrays, out).reshape(wanted),)

        return run


def _check_known(node: GraphNode, covered: Sequence[NodeProto]) -> None:
    """The reference evaluator runs nodes of the model, not what a pass made of them."""
    known = {name for inside in covered for name in (*reads(inside), *inside.output)}
    for name in (*node.outputs, *node.reads):
        if name not in known:
            raise Unsupported(f"node {node.name!r} has no kernel, and the model has no tensor {name!r}")


def _static(imported: Imported) -> Types:
    """Shapes and types of all tensors that have a known size."""
    found = {}
    for name, kind in imported.types.items():
        if kind.shape is not None and kind.element not in (TensorProto.UNDEFINED, TensorProto.STRING):
            found[name] = kind.shape, helper.tensor_dtype_to_np_dtype(kind.element)
    return found


def _initializers(imported: Imported) -> Tensors:
    graph = imported.model.graph
    missing = list(weight_names(imported.model))
    missing += [tensor.name for tensor in graph.initializer if uses_external_data(tensor)]
    if missing:
        raise InvalidGraph(f"weight {missing[0]!r} has no value in memory", hint="fill the model's weights first")
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _reference(nodes: Sequence[NodeProto], imported: Imported) -> Callable[[Tensors], Sequence[np.ndarray]]:
    """A graph node's nodes of the model, as a model of their own run by the reference evaluator."""
    inside = {name for node in nodes for name in node.output}
    names = list(dict.fromkeys(name for node in nodes for name in reads(node) if name not in inside))
    outputs = [name for name in nodes[-1].output if name]
    label = nodes[-1].name

    def declare(name: str) -> onnx.ValueInfoProto:
        kind = imported.types.get(name)
        if kind is None:
            return onnx.ValueInfoProto(name=name)
        return helper.make_tensor_value_info(name, kind.element, kind.shape)

    graph = helper.make_graph(nodes, label, list(map(declare, names)), list(map(declare, outputs)))
    model = ModelProto(ir_version=imported.model.ir_version, opset_import=imported.model.opset_import, graph=graph)
    run = evaluator(model)

    def call(tensors: Tensors) -> Sequence[np.ndarray]:
        try:
            return list(run.run(outputs, {name: tensors[name] for name in names}))
        except Exception as error:
            raise InvalidGraph(f"node {label!r} fails as it runs: {error}", details={"node": label}) from error

    return call


def _with_last_uses(
    runs: Sequence[tuple[GraphNode, Callable[[Tensors], Sequence[np.ndarray]]]], kept: set[str]
) -> tuple[_Step, ...]:
    """Steps that let go of each intermediate after its last reader (or at once, if nothing reads it)."""
    dying: set[str] = set(kept)
    steps = []
    for node, run in reversed(runs):
        touched = {*node.reads, *node.outputs}
        last = tuple(sorted(touched - dying))
        dying |= touched
        steps.append(_Step(node, run, last))
    return tuple(reversed(steps))
