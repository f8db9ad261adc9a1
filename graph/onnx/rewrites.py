"""Rewrites of nodes that leave fewer kinds of nodes to understand; the model's meaning stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx import contrib
from fettle.graph.onnx.batchnorm import fold_normalisations
from fettle.graph.onnx.nbits import NBits, is_nbits
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, integer, number
from fettle.graph.onnx.quantisation import in_float32
from fettle.graph.onnx.transposed import as_convolution
from fettle.graph.onnx.workbench import Workbench

_RMS_NORMALIZATION_SINCE = 23
"""The opset that has RMSNormalization; before, it is written in a domain of ours."""

_SIMPLIFIED = ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")


def rewrite(model: ModelProto) -> None:
    """Replace operators that others can express, in place. New nodes may lack a name of their own.

    Raises:
        InvalidGraph: an operator without its inputs, or with results nobody here understands.
    """
    graph, bench = model.graph, Workbench(model)
    fresh = bench.fresh
    domain = "" if bench.opset >= _RMS_NORMALIZATION_SINCE else FETTLE
    nodes: list[NodeProto] = []
    for node in fold_normalisations(in_float32(graph.node, bench), bench):
        found = contrib.rewritten(node, fresh, bench.opset)
        if found is not None:
            nodes += found
        elif node.op_type in _SIMPLIFIED and node.domain in ("", MICROSOFT):
            nodes += _rms_normalisation(node, fresh, domain)
        elif node.op_type == "Gemm" and node.domain == "":
            nodes += _gemm(node, graph, fresh)
        elif node.op_type == "ConvTranspose" and node.domain == "":
            nodes += as_convolution(node, bench)
        elif is_nbits(node) and len(node.input) == 6 and node.input[5]:
            nodes += _nbits_bias(node, fresh)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
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
