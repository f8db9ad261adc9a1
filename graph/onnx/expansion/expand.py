"""Attention in the forms that runtimes have for themselves, written in operators that everybody has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from onnx import ModelProto, NodeProto, helper

from fettle.graph.onnx.expansion import embeddings, fourd, grouped, multihead, packed
from fettle.graph.onnx.expansion.site import NotUnderstood, Site
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, opset, reads
from fettle.graph.onnx.rewriting.workbench import Workbench
from fettle.graph.onnx.shapes import TensorType

_Expansion = Callable[[Site], bool]

_EXPANSIONS: dict[tuple[str, str], tuple[Sequence[str], _Expansion]] = {
    (MICROSOFT, "Attention"): (packed.INPUTS, packed.expand),
    (MICROSOFT, "GroupQueryAttention"): (grouped.INPUTS, grouped.expand),
    (MICROSOFT, "MultiHeadAttention"): (multihead.INPUTS, multihead.expand),
    (MICROSOFT, "EmbedLayerNormalization"): (embeddings.INPUTS, embeddings.expand),
    ("", "Attention"): (fourd.INPUTS, fourd.expand),
}


def expand(model: ModelProto, types: Mapping[str, TensorType], reasons: dict[str, str]) -> bool:
    """Replace such nodes whose shapes are known, in place.

    Args:
        reasons: becomes, by the names of those that stay, why.

    Returns:
        whether any was replaced: then more shapes may be known than ``types`` says.
    """
    graph, bench, version, found = model.graph, Workbench(model), opset(model), False
    nodes: list[NodeProto] = []
    orphans: list[str] = []
    reasons.clear()
    for node in graph.node:
        inputs, write = _EXPANSIONS.get((node.domain, node.op_type), ((), None))
        site = Site(node, inputs, bench, types, version)
        try:
            done = write is not None and write(site)
        except NotUnderstood as error:
            done, reasons[node.name] = False, str(error)
        if done:
            found = True
            nodes += site.nodes
            graph.initializer.extend(site.constants)
            orphans += reads(node)
        else:
            nodes.append(node)
    nodes = _without_orphans(nodes, orphans, {value.name for value in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    if any(node.domain == FETTLE for node in nodes) and not any(e.domain == FETTLE for e in model.opset_import):
        model.opset_import.append(helper.make_opsetid(FETTLE, 1))
    return found


def _without_orphans(nodes: Sequence[NodeProto], names: Iterable[str], outputs: Collection[str]) -> list[NodeProto]:
    """The nodes without those that made only these tensors, which lost readers: lengths that shapes say, above all."""
    makers = {name: node for node in nodes for name in node.output}
    readers = Counter(name for node in nodes for name in reads(node))
    removed: set[str] = set()
    left = list(names)
    while left:
        node = makers.get(left.pop())
        if node is None or node.name in removed or any(readers[name] or name in outputs for name in node.output):
            continue
        removed.add(node.name)
        readers.subtract(reads(node))
        left += reads(node)
    return [node for node in nodes if node.name not in removed]
