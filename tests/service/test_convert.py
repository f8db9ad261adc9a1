"""Messages and domain values: what goes in comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Basis, Device, MeasurePolicy, Schedule
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.service.convert.events import event_from_proto, event_to_proto
from fettle.service.convert.jobs import job_from_proto, job_to_proto, workloads_to_proto
from fettle.service.convert.kernels import kernel_from_proto, kernel_to_proto
from fettle.service.convert.results import result_from_proto
from fettle.service.convert.values import (
    device_from_proto,
    device_to_proto,
    policy_from_proto,
    policy_from_request,
    policy_to_proto,
    schedule_from_proto,
    schedule_to_proto,
    value_to_proto,
)
from fettle.store.jobs import Job, JobEvent, JobState, Tradeoff, WorkloadResult
from fettle.store.specs import Budget, JobSpec
from fettle.v1 import common_pb2, tuning_pb2
from tests.service.paper import PAPER, make_artifact, make_kernel, matmul, trial_data

texts = st.text(st.characters(codec="utf-8"), max_size=20)
int64s = st.integers(-(2**63), 2**63 - 1)
counts = st.integers(0, 2**31 - 1)
times = st.floats(1e-9, 1e6)
maybe = st.none() | times
values = st.booleans() | int64s | st.floats(allow_nan=False) | texts
schedules = st.builds(Schedule, st.dictionaries(texts, values, max_size=5))
devices = st.builds(
    Device,
    backend=st.sampled_from(["cpu", "paper"]),
    preset=texts,
    facts=st.dictionaries(texts, values, max_size=4),
    limits=st.dictionaries(texts, values, max_size=4),
    label=texts,
)
policies = st.builds(
    MeasurePolicy,
    mode=st.sampled_from(["hot", "cold"]),
    warmup=st.integers(0, 100),
    min_sample=times,
    samples=st.integers(1, 100),
    timeout=times,
)
workloads = st.builds(matmul, st.integers(1, 10**6), st.integers(1, 100).map(lambda g: 32 * g))
results = st.builds(
    WorkloadResult,
    workload=workloads,
    count=st.integers(1, 100),
    trials=counts,
    failed=counts,
    verified=st.booleans(),
    cached=st.booleans(),
    basis=st.sampled_from(Basis),
    max_error=maybe,
    error_ratio=maybe,
    default_s=maybe,
    best_s=maybe,
    best_ci=st.none() | st.tuples(times, times),
    bound_s=maybe,
    bound=texts,
    schedule=st.none() | schedules,
    spearman=st.none() | st.floats(-1, 1),
    pairwise=maybe,
    top1_regret=maybe,
    top5_regret=maybe,
    coverage=maybe,
    waited=maybe,
    artifact_sha256=texts,
    seconds=times,
    error=texts,
    front=st.lists(st.builds(Tradeoff, schedules, times, maybe, st.none() | counts), max_size=3).map(tuple),
)
specs = st.builds(
    JobSpec,
    workloads=st.lists(st.tuples(workloads, st.integers(1, 99)), min_size=1, max_size=3, unique_by=lambda p: p[0]).map(
        tuple
    ),
    device=devices,
    device_text=texts,
    budget=st.builds(Budget, st.integers(1, 10**6), maybe),
    policy=policies,
    seed=st.integers(0, 2**32 - 1),
    force=st.booleans(),
    title=texts,
    objectives=st.sampled_from([("latency",), ("latency", "energy"), ("latency", "energy", "size")]),
)
jobs = st.builds(
    Job,
    id=texts,
    spec=specs,
    state=st.sampled_from(JobState),
    created=times,
    updated=times,
    trials=counts,
    failed=counts,
    results=st.lists(results, max_size=2).map(tuple),
    error=texts,
    cancel_requested=st.booleans(),
)


def over_the_wire(message):  # type: ignore[no-untyped-def]
    return type(message).FromString(message.SerializeToString())


def same_types(one: Schedule, other: Schedule) -> bool:
    return [type(v) for _, v in one.values] == [type(v) for _, v in other.values]


@given(schedules)
def test_schedules_keep_their_values_types_and_key(schedule: Schedule) -> None:
    back = schedule_from_proto(over_the_wire(schedule_to_proto(schedule)))
    assert back == schedule
    assert same_types(back, schedule)
    assert back.key == schedule.key


@given(devices)
def test_devices_keep_their_identity(device: Device) -> None:
    back = device_from_proto(over_the_wire(device_to_proto(device)))
    assert back == device
    assert (back.key, back.label) == (device.key, device.label)


@given(policies)
def test_policies_come_back(policy: MeasurePolicy) -> None:
    assert policy_from_proto(over_the_wire(policy_to_proto(policy))) == policy


@given(jobs)
def test_jobs_come_back_with_all_their_results(job: Job) -> None:
    back = job_from_proto(over_the_wire(job_to_proto(job)))
    assert back == job
    assert back.spec.key == job.spec.key


@given(results)
def test_result_event_is_the_result_as_plain_data(result: WorkloadResult) -> None:
    event = JobEvent("job", 7, 1000.5, "result", codec.to_data(result))
    message = over_the_wire(event_to_proto(event))
    assert result_from_proto(message.result) == result
    assert not message.extra.fields
    assert event_from_proto(message) == event


def test_kernels_come_back() -> None:
    kernel = make_kernel(matmul(), PAPER.devices()[0], make_artifact(10))
    back = kernel_from_proto(over_the_wire(kernel_to_proto(kernel)))
    assert back == kernel
    assert back.key == kernel_to_proto(kernel).key == kernel.key


def test_trial_event_has_a_typed_body_and_comes_back_exactly() -> None:
    event = JobEvent("job", 3, 12.25, "trial", trial_data(2, 3))
    message = over_the_wire(event_to_proto(event))
    assert message.WhichOneof("body") == "trial"
    assert (message.trial.trial, message.trial.seconds, message.trial.outcome) == (2, 2e-3, "ok")
    assert message.trial.schedule.values["prefetch"].flag
    assert dict(message.extra.items()) == {"eta_s": None}
    assert event_from_proto(message) == event


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["workload", "trial", "seconds", "schedule", "phase", "state", "error", "best_s", "eta_s", "count", "else"]
)


@given(st.sampled_from(["state", "phase", "trial", "result", "mood"]), st.dictionaries(fields, plain, max_size=6))
def test_events_of_any_shape_lose_nothing(kind: str, data: dict[str, object]) -> None:
    event = JobEvent("job", 1, 0.0, kind, data)
    assert event_from_proto(over_the_wire(event_to_proto(event))) == event


def test_state_event_is_typed() -> None:
    message = event_to_proto(JobEvent("job", 1, 0.0, "state", {"state": "failed", "error": "torn"}))
    assert message.state.state == tuning_pb2.JOB_STATE_FAILED
    assert message.state.error == "torn"


def test_absent_policy_means_the_default() -> None:
    assert policy_from_proto(common_pb2.MeasurePolicy()) == MeasurePolicy()


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"warmup": -1},
        {"timeout": 0.0},
        {"timeout": float("inf")},
        {"min_sample": float("nan")},
        {"mode": 9},
        {"samples": 10**9},
        {"warmup": 10**9},
        {"timeout": 1e9},
        {"min_sample": 1e9},
    ],
)
def test_absurd_policies_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        policy_from_request(common_pb2.MeasurePolicy(**changes))


def test_a_workload_without_its_count_is_refused_with_the_right_spelling() -> None:
    with pytest.raises(InvalidArgument) as refused:
        workloads_to_proto((matmul(),))  # type: ignore[arg-type]
    assert refused.value.hint == "write workloads=[(workload, 1)]"


def test_integers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(InvalidArgument):
        value_to_proto(2**63)


def test_a_job_from_a_newer_server_with_an_unknown_state_is_refused() -> None:
    spec = JobSpec(((matmul(), 1),), PAPER.devices()[0], "paper")
    message = job_to_proto(Job("job", spec, JobState.DONE, 1.0, 2.0))
    message.state = 99  # type: ignore[assignment]
    with pytest.raises(InvalidArgument, match="state"):
        job_from_proto(message)
