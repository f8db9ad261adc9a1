"""How candidates of a compile target fare: how many build, how long they take, and what the others fail of."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import Candidate, MeasurePolicy
from fettle.backends.host.executor import BuildResult, make_executor
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload

WORKLOADS = (
    "matmul m=1 n=4096 k=4096 act=f16 weight=u4:128",
    "matmul m=16 n=11008 k=4096 act=bf16 weight=u4:128:zp compute=bf16",
    "matmul m=16 n=4096 k=4096 act=f16 weight=u3:128",
    "matmul m=16 n=4096 k=4096 act=bf16 weight=f6e3m2:128",
    "matmul m=1 n=4096 k=4096 act=bf16 weight=mxfp4",
    "matmul m=16 n=4096 k=4096 act=f16 weight=nvfp4",
    "matmul m=128 n=4096 k=4096 act=f16 weight=u8:row",
    "matmul m=1 n=4096 k=4096 act=f16 weight=tern:128",
    "matmul m=512 n=4096 k=4096 act=bf16 weight=bf16",
    "matmul m=512 n=4096 k=4096 act=f8e4m3 weight=f8e4m3 epilogue=y*b0",
    "matmul m=512 n=4096 k=4096 act=i8 weight=i8",
    "attention heads=32 kv_heads=8 q=2048 kv=2048 dim=128 act=bf16 causal=true",
    "attention heads=32 kv_heads=8 q=1 kv=8192 dim=128 act=f16 kvcache=u4:64/f32",
    "attention heads=16 q=1024 kv=1024 dim=64 act=f16 causal=true pattern=ashape:64:1:4",
    "softmax rows=128 cols=32000 act=bf16",
    "layernorm rows=512 cols=4096 act=f16",
    "elementwise shape=128x11008 act=bf16 expr=silu(x0)*x1",
    "lossless n=4096 k=4096 act=bf16",
)
"""At least one workload of every kernel family."""


@attrs.frozen
class CompileRow:
    """Candidates of one workload.

    Attributes:
        built: how many became artifacts; ``spilling`` of these keep values in local memory.
        failures: (outcome, how many).
        median_s, slowest_s: seconds of a build, all its launches together.
        unsupported: why there are no candidates, if the target cannot do the workload.
    """

    workload: str
    tried: int
    built: int
    spilling: int
    failures: tuple[tuple[str, int], ...]
    median_s: float
    slowest_s: float
    unsupported: str = ""


def compile_all(
    device_text: str,
    workloads: Sequence[str],
    each: int,
    seed: int,
    timeout: float,
    on_row: Callable[[CompileRow], None] = lambda row: None,
) -> tuple[CompileRow, ...]:
    """Build the default and uniformly drawn schedules of each workload, ``each`` together; nothing is run."""
    backend, device = resolve_device(device_text)
    rows = []
    with make_executor(backend, device) as executor:
        for text in workloads:
            workload = Workload.parse(text)
            support = backend.supports(workload, device)
            if not support:
                rows.append(CompileRow(text, 0, 0, 0, (), 0.0, 0.0, support.reason))
                on_row(rows[-1])
                continue
            points = enumerate_space(backend.space(workload, device))
            drawn = points.sample(np.random.default_rng(seed), each)
            default = backend.default(workload, device)
            schedules = [default, *(points[i] for i in drawn if points[i] != default)][:each]
            with executor.open(workload, MeasurePolicy(timeout=timeout), seed) as session:
                builds = session.build([Candidate(workload, device, schedule) for schedule in schedules])
            rows.append(_row(text, builds))
            on_row(rows[-1])
    return tuple(rows)


def _row(workload: str, builds: Sequence[BuildResult]) -> CompileRow:
    facts = [dict(build.artifact.facts) for build in builds if build.artifact is not None]
    failures = Counter(build.failure.outcome.value for build in builds if build.failure is not None)
    seconds = [build.seconds for build in builds]
    return CompileRow(
        workload=workload,
        tried=len(builds),
        built=len(facts),
        spilling=sum(bool(fact.get("spills")) for fact in facts),
        failures=tuple(sorted(failures.items())),
        median_s=statistics.median(seconds),
        slowest_s=max(seconds),
    )
