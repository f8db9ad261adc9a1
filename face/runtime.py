"""Executes an imported model: workloads by kernels, what lies between by NumPy, the rest by ONNX's reference evaluator.

Everything that can be done once is done when the model is loaded: constants are packed, tensors get their places, and
each node becomes a function without arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import attrs
import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from fettle.arena import Kind, lay_out
from fettle.backends.cpu.views import empty
from fettle.glue.calls import Call
from fettle.glue.dispatch import prepare
from fettle.glue.moves import is_view
from fettle.graph.errors import FettleError, InvalidArgument, InvalidGraph, Unsupported
from fettle.graph.graph import GraphNode
from fettle.graph.onnx.importer import Imported
from fettle.graph.onnx.operands import operands
from fettle.graph.onnx.patterns.fuse import CONSTANT
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.weightlist import weight_names
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.leftovers import Evaluation, Tensors, check_known, evaluation


class CallableKernel(Protocol):
    """What the runtime needs of a kernel."""

    def prepare(self, *operands: Operand, out: np.ndarray) -> Call:
        """A call that computes into ``out`` from what the operands' arrays hold then; constants are packed now."""
        ...


@attrs.frozen(eq=False)
class _Step:
    """A node that makes tensors: the nodes of the model it stands for, and its kernel, if it has one."""

    node: GraphNode
    covered: tuple[NodeProto, ...]
    kernel: CallableKernel | None


class GraphRuntime:
    """A model with a kernel for every workload, ready to run. :func:`fettle.load` makes one.

    Write the arrays of :attr:`inputs`, call :meth:`run`, read :attr:`outputs`; or call it with arrays of yours, which
    are checked and copied. All calls use the same memory: not safe for concurrent use.

    Attributes:
        inputs: name -> the array that the model reads.
        arena: where tensors between nodes lie.
        slow: names of the nodes that ONNX's reference evaluator runs, tens of microseconds each.

    Args:
        imported: a model with its weights in memory (see :meth:`Imported.filled`).
        kernels: the kernel of a workload, or None to leave it to the reference evaluator; asked once per
            distinct workload.

    Raises:
        InvalidGraph: a weight is missing.
        Unsupported: a node without a kernel has no reference implementation.
    """

    def __init__(self, imported: Imported, kernels: Callable[[Workload], CallableKernel | None]) -> None:
        self._kinds = _static(imported)
        self._tensors = _initializers(imported)
        self._output_names = tuple(value.name for value in imported.model.graph.output)
        steps, views = self._steps(imported, kernels)
        constants = dict(self._tensors)
        inputs = {value.name: self._input(value.name) for value in imported.model.graph.input}
        # Its arrays are written, never replaced: calls know them.
        self.inputs: Mapping[str, np.ndarray] = MappingProxyType(inputs)
        self._tensors.update(inputs)
        self.arena = lay_out(self._lifetimes(steps, views), self._kinds)
        self._place(steps, views)
        self.slow: list[str] = []
        self._calls = tuple((step.node.name, self._prepared(step, imported, constants)) for step in steps)
        self._let_go(steps)

    def run(self) -> None:
        """One pass: reads what the arrays of :attr:`inputs` hold. Nothing is checked.

        Raises:
            InvalidGraph: a node fails, of an index out of range, say.
        """
        name = ""
        try:
            for name, call in self._calls:  # noqa: B007
                call()
        except FettleError:
            raise
        except Exception as error:
            raise InvalidGraph(f"node {name!r} fails as it runs: {error}", details={"node": name}) from error

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """Every output of the last pass by name, where it lies: the next pass overwrites it."""
        return {name: self._tensors[name] for name in self._output_names}

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every output by name, freshly allocated.

        Raises:
            InvalidArgument: an input is missing, unknown, or has the wrong shape or type.
        """
        self._check(inputs)
        for name, array in inputs.items():
            self.inputs[name][...] = array
        self.run()
        return {name: np.array(array) for name, array in self.outputs.items()}

    def _check(self, inputs: Mapping[str, np.ndarray]) -> None:
        for name in inputs:
            if name not in self.inputs:
                raise InvalidArgument(f"the model has no input {name!r}", hint=f"its inputs: {' '.join(self.inputs)}")
        for name, place in self.inputs.items():
            if name not in inputs:
                raise InvalidArgument(f"input {name!r} is missing")
            got = inputs[name]
            if got.shape != place.shape or got.dtype != place.dtype:
                raise InvalidArgument(
                    f"input {name!r} is {got.dtype} {got.shape}, expected {place.dtype} {place.shape}"
                )

    def _input(self, name: str) -> np.ndarray:
        if name not in self._kinds:
            raise Unsupported(f"input {name!r} is no tensor of numbers with a known shape")
        array = empty(*self._kinds[name])
        array[...] = 0
        return array

    def _steps(
        self, imported: Imported, kernels: Callable[[Workload], CallableKernel | None]
    ) -> tuple[list[_Step], dict[str, str]]:
        """What has to be done in each pass, and tensors that are views of others. Evaluates constants."""
        nodes = {node.name: node for node in imported.model.graph.node}
        chosen: dict[Workload, CallableKernel | None] = {}
        steps: list[_Step] = []
        views: dict[str, str] = {}
        for node in imported.graph.nodes:
            covered = tuple(nodes[name] for name in node.covers)
            if node.workload is not None and node.workload not in chosen:
                chosen[node.workload] = kernels(node.workload)
            kernel = None if node.workload is None else chosen[node.workload]
            if kernel is not None and node.workload is not None:
                made = node.workload.result  # a pass over the graph may have added the node, and the tensor
                self._kinds.setdefault(node.outputs[0], (made.shape, made.format.dtype))
            elif node.reason == CONSTANT:
                found = evaluation(covered, imported)(self._tensors)
                self._tensors.update(zip(node.outputs, found, strict=True))
                continue
            elif (source := self._viewed(node, covered)) is not None:
                views[node.outputs[0]] = views.get(source, source)
                continue
            steps.append(_Step(node, covered, kernel))
        return steps, views

    def _viewed(self, node: GraphNode, covered: Sequence[NodeProto]) -> str | None:
        """The tensor whose elements, in their order, are the node's result."""
        if len(covered) != 1 or len(node.outputs) != 1 or node.outputs[0] not in self._kinds:
            return None
        source = next(iter(covered[0].input), "")
        return source if source in self._kinds and is_view(covered[0], self._kinds[source][0]) else None

    def _lifetimes(self, steps: Sequence[_Step], views: Mapping[str, str]) -> list[tuple[list[str], list[str]]]:
        """(tensors made, tensors not used afterwards) of each step; a view is used as what it is a view of."""
        used = {*self._tensors, *(views.get(name, name) for name in self._output_names)}
        result = []
        for step in reversed(steps):
            touched = {views.get(name, name) for name in (*step.node.reads, *step.node.outputs)}
            result.append((list(step.node.outputs), sorted(touched - used)))
            used |= touched
        return result[::-1]

    def _place(self, steps: Sequence[_Step], views: Mapping[str, str]) -> None:
        """Arrays for tensors of known size that steps make, in the arena where they have a place there; and views."""
        for name in (name for step in steps for name in step.node.outputs if name in self._kinds):
            place = self.arena.views.get(name)
            self._tensors[name] = empty(*self._kinds[name]) if place is None else place
        for name, source in views.items():
            self._tensors[name] = self._tensors[source].reshape(self._kinds[name][0])

    def _let_go(self, steps: Sequence[_Step]) -> None:
        """Forget what neither callers nor the evaluator ask for: weights, above all, have been packed."""
        slow = [proto for step in steps if step.node.name in self.slow for proto in step.covered]
        used = {*self._output_names, *(name for proto in slow for name in (*reads(proto), *proto.output))}
        self._tensors = {name: array for name, array in self._tensors.items() if name in used}

    def _prepared(self, step: _Step, imported: Imported, constants: Mapping[str, np.ndarray]) -> Call:
        """The node as a call on the arrays of its tensors."""
        node, tensors = step.node, self._tensors
        if step.kernel is not None and node.workload is not None:
            out = tensors[node.outputs[0]].reshape(node.workload.result.shape)
            return step.kernel.prepare(*operands(node, tensors), out=out)
        check_known(node, step.covered)
        if len(step.covered) == 1:
            names, results = step.covered[0].input, step.covered[0].output
            if all(name in tensors for name in (*filter(None, names), *results)):
                arrays = [tensors[name] if name else None for name in names]
                call = prepare(step.covered[0], arrays, constants, [tensors[name] for name in results])
                if call is not None:
                    return call
        self.slow.append(node.name)
        try:
            return self._evaluated(node, evaluation(step.covered, imported))
        except Unsupported as error:
            raise Unsupported(f"node {node.name!r}: {node.reason or 'no kernel'}; {error.message}") from None

    def _evaluated(self, node: GraphNode, evaluate: Evaluation) -> Call:
        def call() -> None:
            for name, array in zip(node.outputs, evaluate(self._tensors), strict=True):
                if name not in self._kinds:
                    self._tensors[name] = array
                elif array.shape != self._kinds[name][0]:
                    raise InvalidGraph(f"tensor {name!r} is {array.shape}, inferred was {self._kinds[name][0]}")
                else:
                    self._tensors[name][...] = array

        return call


def _static(imported: Imported) -> dict[str, Kind]:
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
        raise InvalidGraph(
            f"weight {missing[0]!r} has no value in memory",
            hint="fill the model's weights first; fettle.load draws them with seed=0",
        )
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
