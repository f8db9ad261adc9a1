"""Values to store, and hypothesis strategies for records."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st

from fettle.backends.api import (
    Artifact,
    Basis,
    Candidate,
    Device,
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Record,
    Roof,
    Schedule,
)
from fettle.graph.workload import Workload
from fettle.store.jobs import WorkloadResult
from fettle.store.kernels import Kernel
from fettle.store.specs import Budget, JobSpec

GEMV = Workload.parse("matmul m=1 n=64 k=64 act=f32 weight=u4:32")
SOFTMAX = Workload.parse("softmax rows=8 cols=128 act=f32")
CPU = Device("cpu", facts={"vendor": "AMD", "l2": 1 << 20, "avx2": True}, limits={"threads": 2}, label="Zen 5")
NPU = Device("npu", preset="systolic", facts={"rows": 128, "clock": 1.5e9})
PROFILE = Profile(CPU.key, (Roof("read:L2", 1e11, threads=1, working_set=1 << 19), Roof("peak:f32", 2e11)))
ARTIFACT = Artifact(
    payload=bytes(range(256)) * 8,
    kind="elf-object",
    abi="tvm-ffi-1",
    entry="main",
    workload=str(GEMV),
    schedule=Schedule.of(tile=4),
    toolchain="tvm-0.27 llvm-22",
    isa=("avx2", "fma"),
    facts={"spills": 0},
)


def spec(seed: int = 0, **changes: object) -> JobSpec:
    """A request to tune both workloads; seeds make different keys."""
    return attrs.evolve(
        JobSpec(((GEMV, 2), (SOFTMAX, 1)), CPU, "cpu,threads=2", Budget(8, 30.0), seed=seed, title="layer.onnx"),
        **changes,
    )


def record(tile: int = 4, *, outcome: Outcome = Outcome.OK, workload: Workload = GEMV, device: Device = CPU) -> Record:
    """A trial; tiles make different candidates."""
    candidate = Candidate(workload, device, Schedule.of(tile=tile, order="nk"))
    if outcome is not Outcome.OK:
        return Record(candidate, Measurement.failure(outcome, "it broke"), MeasurePolicy(), seconds=0.5)
    return Record(
        candidate,
        Measurement(outcome, (tile * 1e-6, tile * 1.1e-6, tile * 1.3e-6), counters={"calls": 100}),
        MeasurePolicy(samples=3),
        verified=True,
        max_error=1e-5,
        error_ratio=0.25,
        artifact_sha256=ARTIFACT.sha256,
        toolchain="tvm-0.27 llvm-22",
        space_version="gemv-3",
        seconds=0.75,
        features=(("loads", 12.0), ("spills", 0.0)),
        predicted=-0.5,
    )


def kernel(workload: Workload = GEMV, device: Device = CPU, **changes: object) -> Kernel:
    """A winner whose artifact is ARTIFACT."""
    made = Kernel(
        workload=workload,
        device=device,
        schedule=Schedule.of(tile=4),
        artifact_sha256=ARTIFACT.sha256,
        mode="hot",
        basis=Basis.MEASURED,
        default_s=2e-6,
        best_s=1e-6,
        best_ci=(0.9e-6, 1.1e-6),
        bound_s=5e-7,
        bound="read:L2",
        max_error=1e-5,
        error_ratio=0.25,
        trials=64,
        job_id="",
        created=1_700_000_000.0,
        toolchain="tvm-0.27 llvm-22",
        abi="tvm-ffi-1",
        isa=("avx2", "fma"),
        space_version="gemv-3",
    )
    return attrs.evolve(made, **changes)


def result(workload: Workload = GEMV, **changes: object) -> WorkloadResult:
    """How a workload ended."""
    made = WorkloadResult(
        workload,
        count=2,
        trials=8,
        failed=1,
        verified=True,
        default_s=2e-6,
        best_s=1e-6,
        best_ci=(0.9e-6, 1.1e-6),
        schedule=Schedule.of(tile=4),
    )
    return attrs.evolve(made, **changes)


_numbers = st.floats(allow_nan=False)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_values = st.one_of(st.integers(-(2**60), 2**60), _numbers, st.booleans(), _texts)
_pairs = st.dictionaries(_texts, _values, max_size=4)

_measurements = st.builds(
    Measurement,
    outcome=st.sampled_from(Outcome),
    samples=st.lists(_numbers, max_size=7).map(tuple),
    basis=st.sampled_from(Basis),
    message=_texts,
    counters=_pairs,
    energy=st.none() | _numbers,
)

records = st.builds(
    Record,
    candidate=st.builds(
        Candidate, st.sampled_from([GEMV, SOFTMAX]), st.sampled_from([CPU, NPU]), st.builds(Schedule, _pairs)
    ),
    measurement=_measurements,
    policy=st.builds(MeasurePolicy, samples=st.integers(1, 20), mode=st.sampled_from(["hot", "cold"])),
    verified=st.booleans(),
    max_error=st.none() | _numbers,
    error_ratio=st.none() | _numbers,
    seconds=_numbers,
    features=st.lists(st.tuples(_texts, _numbers), max_size=5).map(tuple),
    predicted=st.none() | _numbers,
)
"""Records of any content (NaN is left out only because it does not equal itself)."""
