"""``fettle run``: one pass of a model with the cached kernels, checked output by output against others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from fettle.backends.registry import resolve_device
from fettle.bench.peers.onnxnodes import session as open_session
from fettle.bench.timing import interleave
from fettle.differences import compare
from fettle.graph.data import keyed_rng
from fettle.graph.errors import Unsupported
from fettle.graph.graph import GraphNode
from fettle.graph.onnx.load import load
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx.rewriting.widen import has_short_floats
from fettle.graph.onnx.weightlist import weight_names
from fettle.graph.onnx.weights import load_weights
from fettle.graph.onnx_import import Imported
from fettle.graph.workload import Workload
from fettle.kernel import Kernel
from fettle.loading import load_model
from fettle.runtime import GraphRuntime
from fettle.sharing import sharing_json
from fettle.store.api import Store

EXACT_LIMIT = 1e-4
"""Normalised RMS error an output may have when every product is computed in float32."""

INT8_LIMIT = 5e-2
"""The same when activations are rounded to int8: 1 % a product (see the bound of ``matmul``), a few in sequence.

Models that round tensors themselves may also come out on the other side of a step.
"""

SHORT_LIMIT = 2e-2
"""The same beside a peer that rounds every tensor to 16 bits, of which bfloat16 has 8 for the digits; ours are float32.
"""

_ROUNDING = frozenset(("Round", "QuantizeLinear", "DynamicQuantizeLinear"))

_SOURCES = {"exact": "tuned", "default": "default schedule"}
"""A kernel's ``match``, for people."""

NUMPY, REFERENCE = "NumPy, or a view", "reference evaluator"
"""What runs a node without a workload."""

_ROUNDS = 7


def run_model(
    model: str | os.PathLike[str],
    device: str = "cpu",
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    store: Store | str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Run a model once and report nodes, errors against the peers, and times of one pass in seconds.

    Missing weights and all inputs are made up from ``seed``. Products share the preparation of their activations where
    the cache has the kernels for it, and their sum is faster. A cached kernel whose artifact is damaged or lost is
    reported, and the untuned one takes its place.

    Raises:
        InvalidGraph, InvalidDevice, NotFound, Unsupported: the model or device cannot be used.
    """
    _, resolved = resolve_device(device)
    loaded = load_model(model, device, dims=dims, store=store, seed=seed)
    runtime, imported = loaded.runtime, loaded.imported
    return {
        "model": os.path.basename(model),
        "device": str(resolved),
        "nodes": [_node_row(node, loaded.kernels, runtime.slow) for node in imported.graph.nodes],
        "lost": [{"workload": str(workload), "problem": str(problem)} for workload, problem in loaded.lost.items()],
        "sharing": [sharing_json(comparison) for comparison in loaded.sharing],
        "arena": {
            "tensors": len(runtime.arena.views),
            "peak_bytes": runtime.arena.peak,
            "least_bytes": runtime.arena.least,
            "sum_bytes": runtime.arena.together,
            "method": runtime.arena.method,
        },
        **_beside_peers(
            runtime,
            imported,
            _as_given(model, imported),
            made_up_inputs(imported, seed),
            threads=int(resolved.limit("threads", 1)),
        ),
    }


def _as_given(model: str | os.PathLike[str], imported: Imported) -> ModelProto:
    """The model as its file has it, so that a peer optimises it its own way; ours, where weights were made up."""
    raw, folder = load(model)
    return imported.model if weight_names(raw) else load_weights(raw, folder)


def _beside_peers(
    runtime: GraphRuntime, imported: Imported, given: ModelProto, inputs: dict[str, np.ndarray], threads: int
) -> dict[str, Any]:
    """Each output beside the peers', and the time of a pass of ours and of theirs.

    Args:
        given: the model for onnxruntime.
    """
    outputs = runtime(inputs)
    rounded = any(w["compute"].kind == "i8" for w, _ in imported.graph.workloads() if w.operator == "matmul")
    rounded |= any(node.op_type in _ROUNDING for node in imported.model.graph.node)
    limit = INT8_LIMIT if rounded else EXACT_LIMIT
    rows = _rows("onnx.reference", outputs, evaluate(imported.model, inputs), limit)
    passes: dict[str, Callable[[], object]] = {"fettle": lambda: runtime(inputs)}
    missing: dict[str, str] = {}
    try:
        session = open_session(given.SerializeToString(), threads)
    except Unsupported as error:  # an optional peer may be absent, or lack an operator of the model
        missing["onnxruntime"] = str(error)
    else:
        names = [output.name for output in session.get_outputs()]
        peer = dict(zip(names, session.run(None, inputs), strict=True))
        rows += _rows("onnxruntime", outputs, peer, max(limit, SHORT_LIMIT) if has_short_floats(given) else limit)
        passes["onnxruntime"] = lambda: session.run(None, inputs)
    return {
        "outputs": rows,
        "missing_peers": missing,
        "seconds": interleave(passes, rounds=_ROUNDS).medians,
        "ok": all(row["ok"] for row in rows),
    }


def made_up_inputs(imported: Imported, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of the model's shapes: standard normal floats; integers are zero (indices must be in range)."""
    inputs: dict[str, np.ndarray] = {}
    for tensor in imported.graph.inputs:
        if tensor.format.is_float:
            drawn = keyed_rng("fettle.inputs", seed, tensor.name).standard_normal(tensor.shape, np.float32)
            inputs[tensor.name] = np.asarray(drawn).astype(tensor.format.dtype)
        else:
            inputs[tensor.name] = np.zeros(tensor.shape, tensor.format.dtype)
    return inputs


def _node_row(node: GraphNode, kernels: Mapping[Workload, Kernel], slow: Sequence[str]) -> dict[str, Any]:
    between = REFERENCE if node.name in slow else NUMPY
    return {
        "name": node.name,
        "workload": str(node.workload) if node.workload else None,
        "kernel": _SOURCES[kernels[node.workload].match] if node.workload else between,
        "reason": node.reason,
    }


def _rows(
    peer: str, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], limit: float
) -> list[dict[str, Any]]:
    return [
        {
            "output": name,
            "peer": peer,
            "max_error": difference.max_error,
            "nrmse": difference.nrmse,
            "limit": limit,
            "ok": difference.nrmse <= limit,
        }
        for name, difference in compare(outputs, expected).items()
    ]
