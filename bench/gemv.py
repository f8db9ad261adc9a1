"""Quantised matrix-vector products: the tuned kernel beside onnxruntime's MatMulNBits and the read roof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fettle.backends.registry import resolve_device
from fettle.bench.peers import onnxruntime_matmul_nbits
from fettle.bench.timing import interleave
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload
from fettle.offline import lookup
from fettle.store.api import Store
from fettle.tuning import tune

SHAPES = {"A": (4096, 4096), "B": (11008, 4096), "C": (4096, 11008), "D": (3200, 3200), "E": (8640, 3200)}
"""N, K of common decoder layers."""


def run(
    store: Store,
    shapes: Sequence[str],
    formats: Sequence[str],
    threads: Sequence[int],
    trials: int,
    seed: int,
    report: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Tune (or take from the cache), check against the reference, then time interleaved. One row a case."""
    rows = []
    for count in threads:
        device_text = f"cpu,threads={count}"
        _, device = resolve_device(device_text)
        for fmt in formats:
            for shape in shapes:
                n, k = SHAPES[shape]
                workload = Workload.of("matmul", m=1, n=n, k=k, act="f32", weight=fmt)
                report(f"{shape} {fmt} threads={count}: tuning")
                job = tune(workload, device_text, trials=trials, seed=seed, store=store)
                result = job.results[0]
                kernel = lookup(workload, device_text, store=store, default=False)
                rows.append(
                    {"shape": shape, "n": n, "k": k, "format": fmt, "threads": count, "device": device.label}
                    | _time(workload, kernel, count, seed)
                    | {"roof_s": result.bound_s, "roof": result.bound, "schedule": kernel.schedule.as_dict()}
                )
    return rows


def _time(workload: Workload, kernel: Any, threads: int, seed: int) -> dict[str, Any]:
    operands = data.operands(workload, seed)
    reference = data.reference(workload, operands)
    x, weight = operands
    assert isinstance(x, np.ndarray)
    assert isinstance(weight, QuantizedWeight)
    ours = kernel.bind([weight])
    out = ours([x])
    rivals: dict[str, Callable[[], object]] = {"ours": lambda: ours([x])}
    row: dict[str, Any] = {
        "bits_per_weight": weight.format.bits_per_weight(weight.shape[1]),
        "nmse": _nmse(out, reference.expected),
        "within_tolerance": bool((np.abs(out - reference.expected) <= reference.tolerance).all()),
    }
    try:
        peer, result = onnxruntime_matmul_nbits(x, weight, threads)
        rivals["onnxruntime"] = peer
        row["peer_nmse"] = _nmse(result(), reference.expected)
    except Unsupported as error:
        row["peer_missing"] = str(error)
    timed = interleave(rivals)
    row["ours_s"] = timed.medians["ours"]
    row["peer_s"] = timed.medians.get("onnxruntime")
    row["ratio"] = timed.ratio("ours", "onnxruntime") if "onnxruntime" in rivals else None
    return row


def _nmse(got: np.ndarray, expected: np.ndarray) -> float:
    return float(((got - expected) ** 2).sum() / (expected**2).sum())
