"""Sharing activations: what is tuned for it, and who decides."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, InvalidWorkload
from fettle.graph.onnx_import import import_model
from fettle.graph.workload import Workload
from fettle.sharing import compare_results, compare_sharing, sharing_json
from fettle.store.jobs import WorkloadResult
from fettle.store.memory import MemoryStore
from fettle.tuning import plan
from tests.store import samples

MODEL = Path(__file__).parents[2] / "examples" / "decoder_layer.onnx"
DEVICE = "cpu,threads=1"


def test_both_ways_are_tuned_when_that_is_asked_for() -> None:
    alone, _ = plan(MODEL, DEVICE)
    both, work = plan(MODEL, DEVICE, share=["i8"])
    added = dict(both.workloads[len(alone.workloads) :])
    assert both.workloads[: len(alone.workloads)] == alone.workloads
    assert {str(workload): count for workload, count in added.items()} == {
        "quantize rows=1 cols=2048 act=f32 out=i8:128/f32": 2,
        "matmul m=1 n=2048 k=2048 act=i8:128/f32 weight=u4:128/f32": 1,
        "matmul m=1 n=256 k=2048 act=i8:128/f32 weight=u4:128/f32": 2,
        "matmul m=1 n=5632 k=2048 act=i8:128/f32 weight=u4:128/f32": 2,
    }
    assert [way.tensor for way in work.ways] == ["layer0.norm1", "layer0.norm2"]
    with pytest.raises(InvalidWorkload, match="i8 or lut4"):
        plan(MODEL, DEVICE, share=["i9"])
    with pytest.raises(InvalidArgument, match="only products of an ONNX model"):
        plan(samples.GEMV, DEVICE, share=["i8"])


def times(workload: Workload) -> float:
    """Prepared products take 9, others 10; preparing takes 2.5: worth it for three products, not for two."""
    return {"quantize": 2.5, "matmul": 9.0 if "act=i8:128/f32" in str(workload) else 10.0}.get(workload.operator, 1.0)


def test_the_cache_and_a_job_decide_alike_and_never_without_all_times() -> None:
    spec, work = plan(MODEL, DEVICE, share=["i8"])
    _, device = resolve_device(DEVICE)
    graph = import_model(MODEL).graph
    store = MemoryStore()
    store.put_device(device)
    store.put_artifact(samples.ARTIFACT)
    assert not any(c.is_faster for c in compare_sharing(graph, device, store))
    results = []
    for workload, count in spec.workloads:
        time = times(workload)
        store.put_kernel(samples.kernel(workload, device, best_s=time, best_ci=(time, time)))
        results.append(WorkloadResult(workload, count, best_s=time, best_ci=(time, time)))
    cached = [c for c in compare_sharing(graph, device, store) if c.alternative.format.element == "i8"]
    rows = [sharing_json(c) for c in cached]
    assert [row["faster"] for row in rows] == [True, False]
    assert (rows[0]["apart_s"], rows[0]["together_s"]) == (30.0, 29.5)
    assert rows[0]["nodes"] == ["layer0.q", "layer0.k", "layer0.v"]
    assert rows == [sharing_json(c) for c in compare_results(work.ways, results)]
    failed = [attrs.evolve(r, best_s=None) if r.workload.operator == "quantize" else r for r in results]
    assert [sharing_json(c)["together_s"] for c in compare_results(work.ways, failed)] == [None, None]
