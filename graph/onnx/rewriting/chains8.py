"""Elementwise nodes between DequantizeLinear and QuantizeLinear, over codes."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from fettle.graph.onnx.patterns.activations import ELEMENTWISE
from fettle.graph.onnx.protos import reads
from fettle.graph.onnx.rewriting.edges import from_codes, to_codes
from fettle.graph.onnx.rewriting.steps import Steps
from fettle.graph.onnx.rewriting.users import Users
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench

_HOMOGENEOUS = frozenset({"Add", "Sub", "Relu"})
"""Operators that a positive factor passes through."""


def rewritten_chain(node: NodeProto, users: Users, bench: Workbench) -> tuple[list[NodeProto], list[NodeProto]] | None:
    """The nodes that a QuantizeLinear ends, from their codes to its; and those they take the place of.

    None unless it alone reads their result, they read codes of one type and constants alone, and all steps are known.
    """
    steps = Steps.of(node, bench)
    inside = _inside(node, users)
    names = dict.fromkeys(name for other in inside for name in reads(other))
    leaves = {name: users.maker(name, "DequantizeLinear") for name in names if _is_outside(name, inside)}
    found = {name: Steps.of(leaf, bench) for name, leaf in leaves.items() if name not in bench.constants}
    if steps is None or not inside or not found or None in found.values():
        return None
    if any(bench.constants[name][1] not in ((), (1,)) for name in leaves if name in bench.constants):
        return None
    if len({before.dtype for before in found.values() if before is not None}) > 1:
        return None
    scaled = all(other.op_type in _HOMOGENEOUS for other in inside) and len(found) == len(leaves)
    unit = steps.step if scaled else 1.0
    made: list[NodeProto] = []
    values: dict[str, str] = {}
    for name, before in found.items():
        leaf = leaves[name]
        assert leaf is not None
        assert before is not None
        chain = from_codes(Chain(bench, leaf.input[0], leaf.output[0]), before, before.step / unit, bench)
        values[name] = chain.tensor
        made += chain.nodes
    for other in inside:
        copy = NodeProto()
        copy.CopyFrom(other)
        for index, name in enumerate(copy.input):
            copy.input[index] = values.get(name, name)
        made.append(copy)
    end = Chain(bench, node.input[0], node.name)
    if not scaled:
        end.then("Mul", bench.constant(f"{node.name}_factor", np.float32(1.0 / steps.step)))
    return [*made, *to_codes(end, node.output[0], steps, (), bench)], inside


def _inside(node: NodeProto, users: Users) -> list[NodeProto]:
    """The elementwise nodes that a QuantizeLinear follows from, in their order; none if others read their results."""
    found: dict[int, NodeProto] = {}
    waiting = [node.input[0]]
    while waiting:
        maker = users.maker(waiting.pop(), *ELEMENTWISE)
        if maker is not None and id(maker) not in found:
            found[id(maker)] = maker
            waiting += maker.input
    inside = list(found.values())
    private = all(users.are_private(other.output[0], [node, *inside]) for other in inside)
    return users.in_order(inside) if private else []


def _is_outside(name: str, inside: list[NodeProto]) -> bool:
    return all(name not in other.output for other in inside)
