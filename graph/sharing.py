"""A pass over graphs: products with the same input share one preparation of their activations.

Where two products or more read one tensor with quantised weights grouped alike (the projections q, k and v; gate and
up), ``alternatives`` says how a node ``quantize`` could do once what each of them does for itself, ``compare`` which
of these ways is faster by the times of the kernels involved, and ``shared`` writes the graph that way. The pass is
never applied by itself: an extra kernel call is worth it only where the times say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import PER_ROW
from fettle.graph.graph import Graph, GraphNode
from fettle.graph.prepared import PreparedFormat
from fettle.graph.workload import Workload

ELEMENTS = ("i8", "lut4")
"""How activations may be prepared: see :class:`fettle.graph.prepared.PreparedFormat`."""


@attrs.frozen
class Alternative:
    """One way to prepare the activations of some products once.

    Attributes:
        tensor: what they all read.
        format: how it is prepared.
        apart: the products as they are, in the graph's order.
        together: first the node that prepares, then the products that read its result.
    """

    tensor: str
    format: PreparedFormat
    apart: tuple[GraphNode, ...]
    together: tuple[GraphNode, ...]


@attrs.frozen
class Seconds:
    """A measured time: its median, and the interval the median lies in."""

    median: float
    low: float
    high: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.median + other.median, self.low + other.low, self.high + other.high)


@attrs.frozen
class Comparison:
    """Both ways, as sums of their kernels; None where a kernel's time is not known."""

    alternative: Alternative
    apart: Seconds | None
    together: Seconds | None

    @property
    def is_faster(self) -> bool:
        """Sharing wins, beyond the intervals: a tie goes to the products as they are."""
        return self.apart is not None and self.together is not None and self.together.high < self.apart.low


def alternatives(graph: Graph, elements: Iterable[str] = ELEMENTS) -> tuple[Alternative, ...]:
    """Every way in which products of a graph could share a preparation, in the graph's order.

    Raises:
        InvalidWorkload: no such element.
    """
    taken = {name for node in graph.nodes for name in (*node.outputs, *node.reads)}
    return tuple(
        _alternative(tensor, PreparedFormat(element, codes["out"].group), nodes, taken)
        for element in dict.fromkeys(elements)
        for (tensor, codes), nodes in _readers(graph).items()
        if len(nodes) > 1
    )


def workloads(ways: Iterable[Alternative]) -> tuple[tuple[Workload, int], ...]:
    """Distinct workloads of shared preparations, with how often each occurs."""
    counts: dict[Workload, int] = {}
    for way in ways:
        for node in way.together:
            assert node.workload is not None
            counts[node.workload] = counts.get(node.workload, 0) + 1
    return tuple(counts.items())


def compare(ways: Iterable[Alternative], seconds: Callable[[Workload], Seconds | None]) -> tuple[Comparison, ...]:
    """Both sums of each alternative, by the times of kernels."""

    def total(nodes: Sequence[GraphNode]) -> Seconds | None:
        sums = Seconds(0.0, 0.0, 0.0)
        for node in nodes:
            time = None if node.workload is None else seconds(node.workload)
            if time is None:
                return None
            sums += time
        return sums

    return tuple(Comparison(way, total(way.apart), total(way.together)) for way in ways)


def best(comparisons: Iterable[Comparison]) -> tuple[Alternative, ...]:
    """The fastest way of each set of products, where sharing wins."""
    found: dict[tuple[GraphNode, ...], tuple[float, Alternative]] = {}
    for comparison in comparisons:
        if comparison.is_faster and comparison.together is not None:
            way = comparison.alternative
            entry = (comparison.together.median, way)
            found[way.apart] = min(found.get(way.apart, entry), entry, key=lambda e: e[0])
    return tuple(way for _, way in found.values())


def shared(graph: Graph, ways: Sequence[Alternative]) -> Graph:
    """The graph with some products sharing their preparation; no two of ``ways`` may have a product in common."""
    replaced: dict[str, GraphNode] = {}
    before: dict[str, GraphNode] = {}
    for way in ways:
        first, *readers = way.together
        before[way.apart[0].name] = first
        replaced |= {node.name: node for node in readers}
    nodes: list[GraphNode] = []
    for node in graph.nodes:
        if node.name in before:
            nodes.append(before[node.name])
        nodes.append(replaced.get(node.name, node))
    return attrs.evolve(graph, nodes=tuple(nodes))


def _readers(graph: Graph) -> Mapping[tuple[str, Workload], list[GraphNode]]:
    """Products whose activations could be prepared, by the tensor and by what would prepare it as codes."""
    found: dict[tuple[str, Workload], list[GraphNode]] = {}
    for node in graph.nodes:
        codes = None if node.workload is None else _codes(node.workload)
        if codes is not None:
            found.setdefault((node.inputs[0][0], codes), []).append(node)
    return found


def _codes(workload: Workload) -> Workload | None:
    """What would prepare a product's activations as codes; None if nothing could."""
    if workload.operator != "matmul" or isinstance(workload["act"], PreparedFormat):
        return None
    weight = workload["weight"]
    if weight is None or not weight.is_quantised:
        return None
    try:
        fmt = PreparedFormat("i8", workload["k"] if weight.group == PER_ROW else weight.group)
        _reading(workload, fmt)
    except InvalidWorkload:  # groups that do not divide K, activations that may not be rounded, and so on
        return None
    return _preparing(workload, fmt)


def _preparing(workload: Workload, fmt: PreparedFormat) -> Workload:
    return Workload.of("quantize", rows=workload["m"], cols=workload["k"], act=workload["act"], out=fmt)


def _reading(workload: Workload, fmt: PreparedFormat) -> Workload:
    """The product with prepared activations; its result keeps its format.

    Raises:
        InvalidWorkload: there is no such product.
    """
    fields = dict(workload.fields) | {"act": str(fmt), "out": str(workload["out"])}
    return Workload.of("matmul", **fields)


def _alternative(tensor: str, fmt: PreparedFormat, nodes: Sequence[GraphNode], taken: set[str]) -> Alternative:
    name = f"{tensor} as {fmt}"
    while name in taken:
        name += "'"
    products = [(node, node.workload) for node in nodes if node.workload is not None]
    prepare = GraphNode(name, (), ((tensor,),), (name,), _preparing(products[0][1], fmt))
    readers = (
        attrs.evolve(node, inputs=((name,), *node.inputs[1:]), workload=_reading(workload, fmt))
        for node, workload in products
    )
    return Alternative(tensor, fmt, tuple(nodes), (prepare, *readers))
