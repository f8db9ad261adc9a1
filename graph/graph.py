"""Operator graphs in memory: which nodes became workloads, and which did not and why."""

from __future__ import annotations

from collections import Counter

import attrs

from fettle.graph.tensors import TensorSpec
from fettle.graph.workload import Workload


@attrs.frozen
class GraphNode:
    """One kernel call, or one node that no kernel is made for.

    Attributes:
        name: unique name; for a fused chain, the name of its last node.
        covers: names of the model's nodes it stands for.
        inputs: tensor names in operand order (for a quantised weight: codes, scales, zero points packed as one group).
        outputs: tensor names it produces.
        workload: what it computes, or None.
        reason: why there is no workload.
    """

    name: str
    covers: tuple[str, ...]
    inputs: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]
    workload: Workload | None = None
    reason: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all tensors of all operands."""
        return tuple(name for names in self.inputs for name in names)


@attrs.frozen
class Graph:
    """A model cut into workloads, in topological order."""

    name: str
    nodes: tuple[GraphNode, ...]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def workloads(self) -> tuple[tuple[Workload, int], ...]:
        """Distinct workloads with how often each occurs, in order of first occurrence."""
        return tuple(Counter(node.workload for node in self.nodes if node.workload is not None).items())

    def unsupported(self) -> tuple[GraphNode, ...]:
        """Nodes that no kernel is made for; each says why."""
        return tuple(node for node in self.nodes if node.workload is None)
