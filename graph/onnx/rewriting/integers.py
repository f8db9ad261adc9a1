"""Models whose tensors are quantised to 8 bits, as arithmetic on codes where that can be.

Quantisers write operators between DequantizeLinear and QuantizeLinear. Here products of dequantised tensors become
products of codes, ConvInteger and MatMulInteger, whose sums are scaled and rounded by elementwise nodes::

    Conv(x, w) + b -> Relu -> codes    becomes    ConvInteger -> Cast -> Mul -> Add -> Round -> Add -> Clip -> Cast

Steps are positive, so those of x, of each channel of w and of the result are one factor for each channel; Relu and
Clip are bounds of the codes. MaxPool, and nodes that move elements, take codes as they are. Chains of elementwise nodes
read codes by Cast, Sub and Mul.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto

from fettle.graph.onnx.rewriting.chains8 import rewritten_chain
from fettle.graph.onnx.rewriting.edges import AXIS_SINCE, dequantised, dequantised_along, quantised
from fettle.graph.onnx.rewriting.products8 import rewritten_product
from fettle.graph.onnx.rewriting.steps import Steps
from fettle.graph.onnx.rewriting.users import Users
from fettle.graph.onnx.rewriting.workbench import Workbench

_MOVES = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")


def on_codes(nodes: Sequence[NodeProto], bench: Workbench) -> list[NodeProto]:
    """The nodes with products, moves and elementwise chains over codes, where tensors have one known step each."""
    users = Users(nodes, bench.graph)
    instead: dict[int, list[NodeProto]] = {}
    for node in nodes:
        if id(node) in instead:
            continue
        found = rewritten_product(node, users, bench)
        if found is None and node.op_type == "QuantizeLinear":
            found = _moved(node, users, bench) or rewritten_chain(node, users, bench)
        if found is not None:
            made, taken = found
            instead |= {id(other): [] for other in taken}
            instead[id(node)] = made
    return _without_unread([new for node in nodes for new in instead.get(id(node), [node])], bench)


def at_the_edges(nodes: Sequence[NodeProto], bench: Workbench) -> list[NodeProto]:
    """The nodes with what remains of QuantizeLinear before readers of codes, and of DequantizeLinear after nodes that
    make codes otherwise, as elementwise arithmetic. Steps along an axis, which rewrites wrote, are so in old opsets."""
    users = Users(nodes, bench.graph)
    result: list[NodeProto] = []
    for node in nodes:
        steps = Steps.of(node, bench)
        if steps is not None and node.op_type == "QuantizeLinear" and _is_read_as_codes(node.output[0], users):
            result += quantised(node, steps, bench)
        elif (
            steps is not None and node.op_type == "DequantizeLinear" and _is_made_as_codes(node.input[0], users, bench)
        ):
            result += dequantised(node, steps, bench)
        elif bench.opset < AXIS_SINCE and _has_an_axis(node) and node.input[0] in bench.constants:
            result += dequantised_along(node, bench)
        else:
            result.append(node)
    return result


def _has_an_axis(node: NodeProto) -> bool:
    """Whether a node dequantises by steps along an axis."""
    return node.op_type == "DequantizeLinear" and not node.domain and any(a.name == "axis" for a in node.attribute)


def _is_read_as_codes(name: str, users: Users) -> bool:
    return any(reader.op_type != "DequantizeLinear" for reader in users.readers(name))


def _is_made_as_codes(name: str, users: Users, bench: Workbench) -> bool:
    maker = users.maker(name)
    made = maker is None or maker.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear")
    return made and name not in bench.constants


def _moved(node: NodeProto, users: Users, bench: Workbench) -> tuple[list[NodeProto], list[NodeProto]] | None:
    """DequantizeLinear -> a node that moves elements -> QuantizeLinear with the same step: the node itself."""
    move = users.private_maker(node.input[0], node, *_MOVES)
    if move is None or any(move.output[1:]) or bench.opset < 12:  # places of maxima; MaxPool of codes
        return None
    source = users.maker(move.input[0], "DequantizeLinear")
    before, after = Steps.of(source, bench), Steps.of(node, bench)
    if source is None or before is None or before != after:
        return None
    moved = NodeProto()
    moved.CopyFrom(move)
    moved.input[0], moved.output[0] = source.input[0], node.output[0]
    return [moved], [move]


def _without_unread(nodes: Sequence[NodeProto], bench: Workbench) -> list[NodeProto]:
    """Without DequantizeLinear whose numbers nobody reads any more."""
    users = Users(nodes, bench.graph)
    return [node for node in nodes if node.op_type != "DequantizeLinear" or users.is_used(node.output[0])]
