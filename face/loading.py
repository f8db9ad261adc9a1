"""``fettle.load``: a whole model with its cached kernels, ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from fettle.backends.registry import resolve_device
from fettle.graph.errors import DataLoss, Unsupported
from fettle.graph.onnx_import import Imported, import_model
from fettle.graph.sharing import Comparison, best, shared
from fettle.graph.workload import Workload
from fettle.kernel import Kernel
from fettle.offline import lookup, untuned
from fettle.runtime import GraphRuntime
from fettle.sharing import compare_sharing
from fettle.store.api import Store
from fettle.store.lookup import Miss
from fettle.store.open import store_at


@attrs.frozen(eq=False)
class Loaded:
    """A model ready to run, and what became of it.

    Attributes:
        imported: the model with its weights; in its graph, products share preparations where that is faster.
        kernels: of each workload.
        lost: workloads whose cached kernel is damaged or gone; they run untuned.
        sharing: every way to share, beside the products as they are.
    """

    runtime: GraphRuntime
    imported: Imported
    kernels: Mapping[Workload, Kernel]
    lost: Mapping[Workload, DataLoss]
    sharing: tuple[Comparison, ...]


def load(
    model: str | os.PathLike[str] | bytes,
    device: str = "cpu",
    *,
    dims: Mapping[str, int] | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    seed: int | None = None,
) -> GraphRuntime:
    """A model that runs on this machine with its cached kernels, and the untuned defaults where nothing is cached.

    Args:
        model: path of an ONNX model, or its bytes.
        device: device text.
        dims: sizes of the model's symbolic dimensions.
        store: an open store, its URL or path, or None for the user's own store.
        seed: draws weights that the model leaves out (see ``examples/decoder_layer.py``); by default they are an error.

    Raises:
        InvalidGraph: the model is malformed, or a weight is missing.
        InvalidDevice, NotFound: the device or the file cannot be used.
        Unsupported: the device cannot do a workload, or a node has no kernel and no reference implementation.
        DataLoss: a cached kernel is damaged or lost.
    """
    loaded = load_model(model, device, dims=dims, store=store, seed=seed)
    for problem in loaded.lost.values():
        raise problem
    return loaded.runtime


def load_model(
    model: str | os.PathLike[str] | bytes,
    device: str,
    *,
    dims: Mapping[str, int] | None,
    store: Store | str | os.PathLike[str] | None,
    seed: int | None,
) -> Loaded:
    """As :func:`load`, with all that is known of the model; a lost kernel is named there instead of raised."""
    backend, resolved = resolve_device(device)
    imported = import_model(model, dims)
    imported = imported.loaded() if seed is None else imported.filled(seed)
    kernels: dict[Workload, Kernel] = {}
    lost: dict[Workload, DataLoss] = {}
    with store_at(store) as opened:
        sharing = compare_sharing(imported.graph, resolved, opened)
        imported = attrs.evolve(imported, graph=shared(imported.graph, best(sharing)))

        def kernel(workload: Workload) -> Kernel:
            try:
                found = lookup(workload, device, store=opened)
            except DataLoss as problem:
                lost[workload] = problem
                found = untuned(workload, backend, resolved, (Miss("artifact", "whole", problem.message),))
            except Unsupported as problem:
                names = " ".join(node.name for node in imported.graph.nodes if node.workload == workload)
                raise Unsupported(
                    f"node {names}: {problem.message}",
                    hint=problem.hint or "a model runs on a device that has all of its operators: try cpu",
                ) from problem
            kernels[workload] = found
            return found

        return Loaded(GraphRuntime(imported, kernel), imported, kernels, lost, sharing)
