"""Rewrites of nodes that leave fewer kinds of nodes to understand; the model's meaning stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.nbits import NBits, is_nbits
from fettle.graph.onnx.protos import FETTLE, integer, number, reads, subgraphs
from fettle.graph.onnx.rewriting import contrib
from fettle.graph.onnx.rewriting.batchnorm import fold_normalisations
from fettle.graph.onnx.rewriting.quantisation import in_plain_operators
from fettle.graph.onnx.rewriting.transposed import as_convolution
from fettle.graph.onnx.rewriting.workbench import Workbench


def rewrite(model: ModelProto, computed: Mapping[str, tuple[int, tuple[int, ...]]]) -> None:
    """Replace operators that others can express, in place. New nodes may lack a name of their own.

    Args:
        computed: element types and shapes of constants that nodes compute.

    Raises:
        InvalidGraph: an operator without its inputs, with attributes it does not have, or with results nobody here
            understands.
    """
    graph, bench = model.graph, Workbench(model)
    bench.constants |= computed
    _check(model, bench.opset)
    read = {name for node in graph.node for name in reads(node)}
    nodes: list[NodeProto] = []
    for node in fold_normalisations(in_plain_operators(graph.node, bench), bench):
        found = contrib.rewritten(node, bench)
        if found is not None:
            nodes += found
        elif node.op_type == "Gemm" and node.domain == "":
            nodes += _gemm(node, bench)
        elif node.op_type == "ConvTranspose" and node.domain == "":
            nodes += as_convolution(node, bench)
        elif is_nbits(node) and len(node.input) == 6 and node.input[5]:
            nodes += _nbits_bias(node, bench)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _let_go(graph, read)
    if any(node.domain == FETTLE for node in nodes) and not any(e.domain == FETTLE for e in model.opset_import):
        model.opset_import.append(helper.make_opsetid(FETTLE, 1))


def _let_go(graph: GraphProto, read: set[str]) -> None:
    """Without the constants that were read before and are not now."""
    used = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used or tensor.name not in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _check(model: ModelProto, opset: int) -> None:
    """Each node of ONNX's operators has the inputs, outputs and attributes that rewrites count on.

    The model as a whole is checked later: some operators are not known to the checker before they are rewritten.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = max(model.ir_version, 4)
    context.opset_imports = {"": opset}
    for node in model.graph.node:
        if node.domain or any(subgraphs(node)) or not onnx.defs.has(node.op_type, opset, ""):
            continue
        try:
            onnx.checker.check_node(node, context)
        except onnx.checker.ValidationError as error:
            text = " ".join(str(error).split())
            raise InvalidGraph(f"node {node.name!r}: {text}", details={"node": node.name}) from None
        if integer(node, "broadcast", 0) and any(attribute.name == "axis" for attribute in node.attribute):
            raise InvalidGraph(
                f"node {node.name!r}: {node.op_type} broadcasts from an axis on, as opsets before 7 do",
                hint="convert the model by onnx.version_converter.convert_version",
                details={"node": node.name},
            )


def _gemm(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """``alpha·A·B + beta·C`` -> [Transpose ->] MatMul [-> Mul] [-> Add]; a transposed weight stays a constant."""
    alpha, beta = float(number(node, "alpha", 1.0)), float(number(node, "beta", 1.0))
    bias = node.input[2] if len(node.input) > 2 else ""
    if (alpha, beta) != (1.0, 1.0) and _element(bench, node.input) != onnx.TensorProto.FLOAT:
        return [node]  # the factors would need another element type
    nodes = list(_transposed(node, bench))
    turned = {made.input[0]: made.output[0] for made in nodes}
    operands = [
        turned[name] if integer(node, flag, 0) else name
        for name, flag in zip(node.input[:2], ("transA", "transB"), strict=True)
    ]
    steps: list[tuple[str, str]] = []

    def factor(value: float) -> str:
        return bench.constant(f"{node.name}_factor", np.array(value, np.float32))

    if alpha != 1.0:
        steps.append(("Mul", factor(alpha)))
    if bias and beta != 0.0:
        if beta != 1.0:
            scaled = bench.fresh(f"{node.name}_bias")
            nodes.append(helper.make_node("Mul", [bias, factor(beta)], [scaled], name=f"{node.name}/beta"))
            bias = scaled
        steps.append(("Add", bias))
    targets = [bench.fresh(f"{node.name}_{i}") for i in range(len(steps))] + [node.output[0]]
    nodes.append(helper.make_node("MatMul", operands, [targets[0]], name=node.name))
    for (operator, other), before, after in zip(steps, targets, targets[1:], strict=False):
        nodes.append(helper.make_node(operator, [before, other], [after], name=f"{node.name}/{operator.lower()}"))
    return nodes


def _transposed(node: NodeProto, bench: Workbench) -> Iterator[NodeProto]:
    for name, flag in zip(node.input[:2], ("transA", "transB"), strict=True):
        if integer(node, flag, 0):
            turned = bench.fresh(f"{name}_transposed")
            yield helper.make_node("Transpose", [name], [turned], name=f"{node.name}/{flag}", perm=[1, 0])


def _element(bench: Workbench, names: Iterable[str]) -> int:
    """Element type of the first of ``names`` that the graph declares; 0 if it declares none."""
    declared = {value.name: value.type.tensor_type.elem_type for value in bench.graph.input}
    declared |= {name: element for name, (element, _) in bench.constants.items()}
    return next((declared[name] for name in names if name in declared), 0)


def _nbits_bias(node: NodeProto, bench: Workbench) -> list[NodeProto]:
    """MatMulNBits with a bias -> MatMulNBits -> Add."""
    NBits.of(node)
    product = NodeProto()
    product.CopyFrom(node)
    del product.input[5:]
    while not product.input[-1]:
        del product.input[-1]
    product.output[0] = bench.fresh(f"{node.name}_product")
    add = helper.make_node("Add", [product.output[0], node.input[5]], [node.output[0]], name=f"{node.name}/bias")
    return [product, add]
