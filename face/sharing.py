"""Whether products share one preparation of their activations: decided by the times of cached kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fettle.backends.api import Device
from fettle.graph.graph import Graph
from fettle.graph.sharing import Alternative, Comparison, Seconds, alternatives, compare
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.jobs import WorkloadResult
from fettle.store.lookup import lookup


def compare_sharing(graph: Graph, device: Device, store: Store, mode: str = "hot") -> tuple[Comparison, ...]:
    """Every way to share, beside the products as they are, by the best times in the cache."""

    def seconds(workload: Workload) -> Seconds | None:
        found = lookup(store, workload, device, mode)
        if found.kernel is None or found.match != "exact":
            return None
        return Seconds(found.kernel.best_s, *found.kernel.best_ci)

    return compare(alternatives(graph), seconds)


def compare_results(ways: Iterable[Alternative], results: Iterable[WorkloadResult]) -> tuple[Comparison, ...]:
    """Ways to share, beside the products as they are, by what a job found."""
    times = {
        r.workload: Seconds(r.best_s, *(r.best_ci or (r.best_s, r.best_s))) for r in results if r.best_s is not None
    }
    return compare(ways, times.get)


def sharing_json(comparison: Comparison) -> dict[str, Any]:
    """One way to share as ``--json`` prints it: sums of kernels in seconds, null where one has not been tuned."""
    way, apart, together = comparison.alternative, comparison.apart, comparison.together
    return {
        "tensor": way.tensor,
        "format": str(way.format),
        "nodes": [node.name for node in way.apart],
        "apart_s": None if apart is None else apart.median,
        "together_s": None if together is None else together.median,
        "faster": comparison.is_faster,
    }
