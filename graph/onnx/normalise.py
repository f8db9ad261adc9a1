"""Rewrites that leave fewer kinds of nodes to understand; the model's meaning stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, inliner

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.nbits import NBits, is_nbits
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, integer, number, opset, reads

_RMS_NORMALIZATION_SINCE = 23
_SIMPLIFIED = ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")


def normalise(model: ModelProto) -> ModelProto:
    """A copy with functions inlined, nodes named and sorted, constants as initializers, and fewer operators.

    Raises:
        InvalidGraph: the nodes form a cycle, two nodes produce one tensor, or functions cannot be inlined.
    """
    result = ModelProto()
    result.CopyFrom(model)
    if result.functions:
        try:
            result = inliner.inline_local_functions(result)
        except (RuntimeError, ValueError) as error:
            raise InvalidGraph(f"functions of the model cannot be inlined: {error}") from None
    graph = result.graph
    for node in graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    _name_nodes(graph)
    _sort(graph)
    _lift_constants(graph)
    _rewrite(result)
    constants = {tensor.name for tensor in graph.initializer}
    free = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(free)
    return result


def _name_nodes(graph: GraphProto) -> None:
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name


def _sort(graph: GraphProto) -> None:
    producers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for output in filter(None, node.output):
            if output in producers:
                names = f"{graph.node[producers[output]].name!r} and {node.name!r}"
                raise InvalidGraph(f"nodes {names} both produce tensor {output!r}", details={"node": node.name})
            producers[output] = index
    needs = {
        index: [producers[name] for name in reads(node) if name in producers] for index, node in enumerate(graph.node)
    }
    if all(before < index for index, wanted in needs.items() for before in wanted):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        cycle = [graph.node[index].name for index in error.args[1]]
        raise InvalidGraph(f"nodes form a cycle: {' -> '.join(cycle)}", details={"node": cycle[0]}) from None
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _lift_constants(graph: GraphProto) -> None:
    """``Constant`` nodes become initializers, so that a weight is a weight however it is written."""
    kept = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" and node.domain == "" else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: NodeProto) -> onnx.TensorProto | None:
    """The value of a well-formed ``Constant`` of numbers; the checker judges the others."""
    if len(node.attribute) != 1 or len(node.output) != 1 or node.input:
        return None
    attribute, kinds = node.attribute[0], onnx.AttributeProto
    match attribute.name, attribute.type:
        case "value", kinds.TENSOR:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        case "value_float", kinds.FLOAT:
            return helper.make_tensor("", onnx.TensorProto.FLOAT, [], [attribute.f])
        case "value_int", kinds.INT:
            return helper.make_tensor("", onnx.TensorProto.INT64, [], [attribute.i])
        case "value_floats", kinds.FLOATS:
            return helper.make_tensor("", onnx.TensorProto.FLOAT, [len(attribute.floats)], attribute.floats)
        case "value_ints", kinds.INTS:
            return helper.make_tensor("", onnx.TensorProto.INT64, [len(attribute.ints)], attribute.ints)
    return None


def _rewrite(model: ModelProto) -> None:
    graph = model.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}

    def fresh(stem: str) -> str:
        name, count = stem, 0
        while name in taken:
            name, count = f"{stem}_{count}", count + 1
        taken.add(name)
        return name

    domain = "" if opset(model) >= _RMS_NORMALIZATION_SINCE else FETTLE
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type in _SIMPLIFIED and node.domain in ("", MICROSOFT):
            nodes += _rms_normalisation(node, fresh, domain)
        elif node.op_type == "Gemm" and node.domain == "":
            nodes += _gemm(node, graph, fresh)
        elif is_nbits(node) and len(node.input) == 6 and node.input[5]:
            nodes += _nbits_bias(node, fresh)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _name_nodes(graph)
    if any(node.domain == FETTLE for node in nodes) and not any(e.domain == FETTLE for e in model.opset_import):
        model.opset_import.append(helper.make_opsetid(FETTLE, 1))


def _rms_normalisation(node: NodeProto, fresh: Callable[[str], str], domain: str) -> list[NodeProto]:
    """[Skip]SimplifiedLayerNormalization -> [Add ->] RMSNormalization. Statistics outputs must be unused."""
    skip = node.op_type.startswith("Skip")
    if len(node.input) < 2 + skip or not node.output:
        raise InvalidGraph(f"node {node.name!r}: {node.op_type} lacks inputs", details={"node": node.name})
    if any(node.output[1 : 3 if skip else None]):
        raise InvalidGraph(
            f"node {node.name!r}: the statistics outputs of {node.op_type} are for training and not understood",
            details={"node": node.name},
        )
    x, scale, nodes = node.input[0], node.input[1], []
    if skip:
        scale = node.input[2]
        terms = [name for name in (node.input[1], *node.input[3:4]) if name]
        for index, term in enumerate(terms):
            last = index == len(terms) - 1
            total = node.output[3] if last and len(node.output) > 3 and node.output[3] else fresh(f"{node.name}_sum")
            nodes.append(helper.make_node("Add", [x, term], [total], name=f"{node.name}/add{index}"))
            x = total
    nodes.append(
        helper.make_node(
            "RMSNormalization", [x, scale], [node.output[0]], name=node.name, domain=domain,
            axis=integer(node, "axis", -1), epsilon=float(number(node, "epsilon", 1e-5)),
        )
    )  # fmt: skip
    return nodes


def _gemm(node: NodeProto, graph: GraphProto, fresh: Callable[[str], str]) -> list[NodeProto]:
    """``alpha·A·B + beta·C`` -> [Transpose ->] MatMul [-> Mul] [-> Add]; a transposed weight stays a constant."""
    if len(node.input) < 2 or len(node.output) != 1:
        return [node]
    alpha, beta = float(number(node, "alpha", 1.0)), float(number(node, "beta", 1.0))
    bias = node.input[2] if len(node.input) > 2 else ""
    if (alpha, beta) != (1.0, 1.0) and _element(graph, node.input) != onnx.TensorProto.FLOAT:
        return [node]  # the factors would need another element type
    operands = list(node.input[:2])
    nodes: list[NodeProto] = []
    for index, flag in enumerate(("transA", "transB")):
        if integer(node, flag, 0):
            turned = fresh(f"{operands[index]}_transposed")
            name = f"{node.name}/{flag}"
            nodes.append(helper.make_node("Transpose", [operands[index]], [turned], name=name, perm=[1, 0]))
            operands[index] = turned
    steps: list[tuple[str, str]] = []

    def factor(value: float) -> str:
        name = fresh(f"{node.name}_factor")
        graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [value]))
        return name

    if alpha != 1.0:
        steps.append(("Mul", factor(alpha)))
    if bias and beta != 0.0:
        if beta != 1.0:
            scaled = fresh(f"{node.name}_bias")
            nodes.append(helper.make_node("Mul", [bias, factor(beta)], [scaled], name=f"{node.name}/beta"))
            bias = scaled
        steps.append(("Add", bias))
    targets = [fresh(f"{node.name}_{i}") for i in range(len(steps))] + [node.output[0]]
    nodes.append(helper.make_node("MatMul", operands, [targets[0]], name=node.name))
    for (operator, other), before, after in zip(steps, targets, targets[1:], strict=False):
        nodes.append(helper.make_node(operator, [before, other], [after], name=f"{node.name}/{operator.lower()}"))
    return nodes


def _element(graph: GraphProto, names: Iterable[str]) -> int:
    """Element type of the first of ``names`` that the graph declares; 0 if it declares none."""
    declared = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    declared |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return next((declared[name] for name in names if name in declared), 0)


def _nbits_bias(node: NodeProto, fresh: Callable[[str], str]) -> list[NodeProto]:
    """MatMulNBits with a bias -> MatMulNBits -> Add."""
    NBits.of(node)
    product = NodeProto()
    product.CopyFrom(node)
    del product.input[5:]
    while not product.input[-1]:
        del product.input[-1]
    product.output[0] = fresh(f"{node.name}_product")
    add = helper.make_node("Add", [product.output[0], node.input[5]], [node.output[0]], name=f"{node.name}/bias")
    return [product, add]
