"""Functions of a model, inlined: as long as they are few enough once they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx
from onnx import ModelProto, NodeProto, inliner

from fettle.graph.errors import InvalidGraph
from fettle.graph.onnx.protos import subgraphs

MOST_NODES = 2**16
"""Of a model whose functions are inlined: functions that call each other twice double with each call."""

_DEEPEST = 64
"""Calls within calls."""

Key = tuple[str, str, str]


def inline_functions(model: ModelProto) -> ModelProto:
    """The model with functions inlined; itself if it has none.

    Raises:
        InvalidGraph: they call themselves, are absurdly many or deep, or cannot be inlined.
    """
    if not model.functions:
        return model
    _check(model)
    try:
        return inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise InvalidGraph(f"functions of the model cannot be inlined: {error}") from None


def _check(model: ModelProto) -> None:
    bodies = {(f.domain, f.name, f.overload): list(_walk(f.node)) for f in model.functions}
    calls = {key: [_key(node) for node in nodes if _key(node) in bodies] for key, nodes in bodies.items()}
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        names = " -> ".join(name for _, name, _ in error.args[1])
        raise InvalidGraph(f"functions of the model call themselves: {names}") from None
    sizes: dict[Key, int] = {}
    depths: dict[Key, int] = {}
    for key in order:
        sizes[key] = sum(sizes.get(_key(node), 1) for node in bodies[key])
        depths[key] = 1 + max((depths[called] for called in calls[key]), default=0)
    total = sum(sizes.get(_key(node), 1) for node in _walk(model.graph.node))
    if total > MOST_NODES or max(depths.values()) > _DEEPEST:
        raise InvalidGraph(
            f"functions of the model become {total} nodes, {max(depths.values())} calls deep; "
            f"at most {MOST_NODES} and {_DEEPEST} are allowed"
        )


def _key(node: NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _walk(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, and those of their bodies."""
    for node in nodes:
        yield node
        for body in subgraphs(node):
            yield from _walk(body.node)
