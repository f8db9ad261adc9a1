"""Triton kernels beside torch's on the GPU of this machine, both hot, in CUDA graphs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from fettle.backends.api import Candidate, MeasurePolicy
from fettle.backends.host.executor import make_executor
from fettle.backends.registry import resolve_device
from fettle.bench.peers.cuda import GpuRival, load_torch, rivals
from fettle.graph import data
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.lookup import lookup

WORKLOADS = (
    *(f"matmul m={m} n=4096 k=4096 act=bf16 weight=u4:128" for m in (1, 16, 64, 128)),
    "matmul m=1 n=28672 k=8192 act=bf16 weight=u4:128",
    "matmul m=1 n=11008 k=4096 act=bf16 weight=u4:128",
    "matmul m=4096 n=4096 k=4096 act=bf16 weight=bf16",
    "attention heads=32 kv_heads=8 q=4096 kv=4096 dim=128 act=bf16 causal=true",
    "attention batch=8 heads=32 kv_heads=8 q=1 kv=8192 dim=128 act=bf16",
    "softmax rows=4096 cols=32000 act=bf16",
)

_CALLS = 20

Timer = Callable[[Callable[[], Any]], float]
"""Seconds of one call."""


@attrs.frozen
class PeerResult:
    """A peer's median in seconds, and its largest error as a share of the tolerance a kernel of ours must keep."""

    name: str
    seconds: float
    error_ratio: float


@attrs.frozen
class GpuRow:
    """One workload; ``seconds`` is None where our kernel failed, for the reason given."""

    workload: str
    tuned: bool
    seconds: float | None
    reason: str
    bound_s: float
    peers: tuple[PeerResult, ...]


def bench_gpu(
    store: Store, device_text: str, workloads: Sequence[str], rounds: int, on_row: Callable[[GpuRow], None]
) -> tuple[GpuRow, ...]:
    """Our kernel from the cache, else the untuned default, verified and timed; then torch's on the same data.

    Raises:
        Unsupported: there is no GPU here, or no torch.
    """
    backend, device = resolve_device(device_text)
    torch = load_torch()
    policy = MeasurePolicy(samples=rounds, timeout=120.0)
    rows = []
    with make_executor(backend, device) as executor:
        profile = store.get_profile(device.key) or executor.profile()
        for text in workloads:
            workload = Workload.parse(text)
            found = lookup(store, workload, device)
            schedule = found.kernel.schedule if found.kernel is not None else backend.default(workload, device)
            candidate = Candidate(workload, device, schedule)
            with executor.open(workload, policy, seed=0) as session:
                (built,) = session.build([candidate])
                measured = built.failure if built.artifact is None else None
                measured = measured or session.evaluate(candidate, built.artifact).measurement  # type: ignore[arg-type]
            rows.append(
                GpuRow(
                    workload=text,
                    tuned=found.kernel is not None,
                    seconds=measured.time if measured.ok else None,
                    reason=measured.message,
                    bound_s=backend.bound(workload, device, profile).seconds,
                    peers=peer_results(torch, "cuda", workload, rounds, cuda_timer(torch)),
                )
            )
            on_row(rows[-1])
    return tuple(rows)


def peer_results(torch: Any, device: str, workload: Workload, rounds: int, timer: Timer) -> tuple[PeerResult, ...]:
    """Torch's ways to compute a workload, each compared with the reference and timed."""
    operands = data.operands(workload, 0)
    found: list[GpuRival] = rivals(torch, device, workload, operands)
    reference = data.reference(workload, operands) if found else None
    results = []
    for rival in found:
        assert reference is not None
        result = rival.call().double().cpu().numpy()
        error = float(np.max(np.abs(result - reference.expected) / reference.tolerance))
        seconds = statistics.median(timer(rival.call) for _ in range(rounds))
        results.append(PeerResult(rival.name, seconds, error))
    return tuple(results)


def cuda_timer(torch: Any) -> Timer:
    """Times calls as one CUDA graph of some of them, between two events."""

    def seconds(call: Callable[[], Any]) -> float:
        call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(_CALLS):
                call()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e-3 / _CALLS

    return seconds
