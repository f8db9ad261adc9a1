"""Triton kernels beside those of others on the GPU of this machine, all cold, in CUDA graphs."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import attrs

from fettle.backends.api import Backend, Candidate, Device, MeasurePolicy, Schedule
from fettle.backends.host.executor import Session, TrialResult, make_executor
from fettle.backends.host.verify import compare
from fettle.backends.registry import resolve_device
from fettle.bench.peers.cuda import load_torch, rivals
from fettle.bench.peers.packages import Absent
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.lookup import lookup

_U4 = "act=bf16 weight=u4:128 compute=bf16"
WORKLOADS = (
    *(f"matmul m={m} n=11008 k=4096 {_U4}" for m in (1, 2, 4, 8, 16, 32, 64, 128)),
    *(f"matmul m={m} n=28672 k=8192 {_U4}" for m in (1, 16)),
    f"matmul m=1 n=4096 k=4096 {_U4}",
    *(f"matmul m=1 n=28672 k=8192 act=f16 weight=u{bits}:128 compute=f16" for bits in range(8, 0, -1)),
    "matmul m=128 n=11008 k=4096 act=bf16 weight=u8:row",
    "matmul m=128 n=11008 k=4096 act=bf16 weight=f8e4m3:row compute=f8e4m3",
    "matmul m=4096 n=4096 k=4096 act=bf16 weight=bf16",
    "matmul m=4096 n=4096 k=4096 act=bf16 weight=bf16 epilogue=relu(y+b0)+x0",
    "matmul m=4096 n=4096 k=4096 act=f8e4m3 weight=f8e4m3 epilogue=y*b0",
    "matmul m=4096 n=4096 k=4096 act=i8 weight=i8",
    "attention heads=32 kv_heads=8 q=4096 kv=4096 dim=128 act=bf16 causal=true",
    "attention batch=8 heads=32 kv_heads=8 q=1 kv=8192 dim=128 act=bf16",
    "attention heads=32 kv_heads=8 q=4096 kv=4096 dim=128 act=bf16 causal=true pattern=ashape:64:1:4",
    "attention heads=32 kv_heads=8 q=4096 kv=4096 dim=128 act=bf16 causal=true pattern=slash:64:8",
    "attention heads=32 kv_heads=8 q=4096 kv=4096 dim=128 act=bf16 causal=true pattern=block:64:3",
    *(
        f"attention batch=8 heads=32 kv_heads=8 q=1 kv=8192 dim=128 act=bf16 kvcache=u{bits}:64/f32"
        for bits in (8, 4, 2)
    ),
    "softmax rows=4096 cols=32000 act=bf16",
    "lossless n=11008 k=4096 act=bf16",
)
"""Weights in four bits over batches and sizes, one size over all widths, products of bytes, and what goes with them in
a decoder: attention to all keys, to patterns of blocks, and to caches of a few bits."""

_CALLS = 20
"""Of one graph, at least."""
_MOST_SETS = 64
_AHEAD = 2
"""Workloads whose operands and reference are made meanwhile: that takes longer than the kernels."""

Timer = Callable[[Sequence[Callable[[], Any]], int], float]
"""Seconds of one of some calls, taken in turn: the median of so many samples."""


@attrs.frozen
class PeerResult:
    """A peer's median in seconds, and its largest error as a share of the tolerance a kernel of ours must keep.

    Both are None where the peer failed, for the reason given.
    """

    name: str
    seconds: float | None = None
    error_ratio: float | None = None
    reason: str = ""


@attrs.frozen
class GpuRow:
    """One workload; ``seconds`` is None where our kernel failed, for the reason given."""

    workload: str
    tuned: bool
    seconds: float | None
    error_ratio: float | None
    reason: str
    bound_s: float
    bound: str
    schedule: dict[str, Any]
    peers: tuple[PeerResult, ...]


def bench_gpu(
    store: Store, device_text: str, workloads: Sequence[str], rounds: int, on_row: Callable[[GpuRow], None]
) -> tuple[GpuRow, ...]:
    """Our kernel from the cache, else the untuned default, verified and timed; then the peers on the same data.

    Operands lie in more copies than the last-level cache holds, and calls take them in turn, ours and theirs.

    Raises:
        Unsupported: there is no GPU here, or no torch.
    """
    backend, device = resolve_device(device_text)
    torch = load_torch()
    policy = MeasurePolicy(mode="cold", samples=rounds, timeout=120.0)
    rows = []
    with make_executor(backend, device) as executor:
        profile = store.get_profile(device.key) or executor.profile()
        todo = [Workload.parse(text) for text in workloads]
        with closing(opened_ahead(lambda workload: executor.open(workload, policy, 0), todo)) as sessions:
            for text, workload, session in zip(workloads, todo, sessions, strict=True):
                bound = backend.bound(workload, device, profile)
                tuned, schedule, trial = _ours(store, backend, device, workload, session)
                operands, reference = session.verification_data()
                peers = peer_results(
                    torch, "cuda", workload, operands, reference, rounds, cuda_timer(torch), device.fact("l2")
                )
                measured = trial.measurement
                rows.append(
                    GpuRow(
                        workload=text,
                        tuned=tuned,
                        seconds=measured.time if measured.ok else None,
                        error_ratio=trial.error_ratio,
                        reason=measured.message,
                        bound_s=bound.seconds,
                        bound=bound.roof,
                        schedule=schedule.as_dict(),
                        peers=peers,
                    )
                )
                on_row(rows[-1])
    return tuple(rows)


def opened_ahead(
    open_session: Callable[[Workload], Session], workloads: Sequence[Workload]
) -> Generator[Session, None, None]:
    """A session of each workload in turn, closed before the next one comes, while some are opened already.

    Those are closed with the generator, whatever ends it.
    """
    with ThreadPoolExecutor(_AHEAD) as pool:
        coming = deque(pool.submit(open_session, workload) for workload in workloads[:_AHEAD])
        try:
            for number in range(len(workloads)):
                with coming.popleft().result() as session:
                    if number + _AHEAD < len(workloads):
                        coming.append(pool.submit(open_session, workloads[number + _AHEAD]))
                    yield session
        finally:
            for future in coming:
                if not future.cancel() and future.exception() is None:
                    future.result().close()


def _ours(
    store: Store, backend: Backend, device: Device, workload: Workload, session: Session
) -> tuple[bool, Schedule, TrialResult]:
    """Whether the kernel is from the cache, its schedule, and how it did."""
    found = lookup(store, workload, device, "cold")
    if found.kernel is not None:
        candidate = Candidate(workload, device, found.kernel.schedule)
        return True, candidate.schedule, session.evaluate(candidate, store.get_artifact(found.kernel.artifact_sha256))
    candidate = Candidate(workload, device, backend.default(workload, device))
    (built,) = session.build([candidate])
    if built.artifact is None:
        return False, candidate.schedule, TrialResult(built.problem, False, None, None, built.seconds)
    return False, candidate.schedule, session.evaluate(candidate, built.artifact)


def peer_results(
    torch: Any,
    device: str,
    workload: Workload,
    operands: Sequence[Operand],
    reference: Reference,
    rounds: int,
    timer: Timer,
    cache: int = 0,
) -> tuple[PeerResult, ...]:
    """The peers' ways to compute a workload, each compared with the reference and timed.

    Args:
        cache: bytes of the last-level cache, of which the copies of a peer's operands fill twice as much.
    """
    results = []
    for rival in rivals(torch, device, workload, operands):
        if isinstance(rival, Absent):
            results.append(PeerResult(rival.name, reason=rival.reason))
            continue
        try:
            result = rival.call().double().cpu().numpy()
            _, error, _, _ = compare(result, reference)
            size = sum(tensor.numel() * tensor.element_size() for tensor in rival.tensors)
            copies = rival.copies(min(_MOST_SETS, 1 + 2 * cache // size))
            found = PeerResult(rival.name, timer([copy.call for copy in copies], rounds), error)
        except RuntimeError as problem:  # what torch raises: out of memory, no kernel for these shapes
            found = PeerResult(rival.name, reason=str(problem).partition("\n")[0][:500])
        results.append(found)
    return tuple(results)


def cuda_timer(torch: Any) -> Timer:
    """Times calls in turn as one CUDA graph, between two events."""

    def seconds(calls: Sequence[Callable[[], Any]], rounds: int) -> float:
        for call in calls:
            call()
        count = -(-_CALLS // len(calls)) * len(calls)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(count):
                calls[i % len(calls)]()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        samples = []
        for _ in range(rounds):
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            samples.append(float(start.elapsed_time(end)) * 1e-3 / count)
        return statistics.median(samples)

    return seconds
