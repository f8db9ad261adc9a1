from fettle.v1 import common_pb2 as _common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_PAUSED: _ClassVar[JobState]
    JOB_STATE_DONE: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_PAUSED: JobState
JOB_STATE_DONE: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState

class Graph(_message.Message):
    __slots__ = ("onnx", "dims")
    class DimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ONNX_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    onnx: bytes
    dims: _containers.ScalarMap[str, int]
    def __init__(self, onnx: _Optional[bytes] = ..., dims: _Optional[_Mapping[str, int]] = ...) -> None: ...

class WorkloadCount(_message.Message):
    __slots__ = ("workload", "count")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    workload: str
    count: int
    def __init__(self, workload: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class WorkloadCounts(_message.Message):
    __slots__ = ("workloads",)
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedCompositeFieldContainer[WorkloadCount]
    def __init__(self, workloads: _Optional[_Iterable[_Union[WorkloadCount, _Mapping]]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("trials", "seconds")
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    trials: int
    seconds: float
    def __init__(self, trials: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("graph", "workloads", "device", "budget", "policy", "seed", "force", "title", "request_id", "objectives")
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    graph: Graph
    workloads: WorkloadCounts
    device: str
    budget: Budget
    policy: _common_pb2.MeasurePolicy
    seed: int
    force: bool
    title: str
    request_id: str
    objectives: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, graph: _Optional[_Union[Graph, _Mapping]] = ..., workloads: _Optional[_Union[WorkloadCounts, _Mapping]] = ..., device: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., policy: _Optional[_Union[_common_pb2.MeasurePolicy, _Mapping]] = ..., seed: _Optional[int] = ..., force: _Optional[bool] = ..., title: _Optional[str] = ..., request_id: _Optional[str] = ..., objectives: _Optional[_Iterable[str]] = ...) -> None: ...

class UnsupportedNode(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SubmitJobResponse(_message.Message):
    __slots__ = ("job", "joined", "unsupported")
    JOB_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    UNSUPPORTED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    joined: bool
    unsupported: _containers.RepeatedCompositeFieldContainer[UnsupportedNode]
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., joined: _Optional[bool] = ..., unsupported: _Optional[_Iterable[_Union[UnsupportedNode, _Mapping]]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("workloads", "device", "device_text", "budget", "policy", "seed", "force", "title", "objectives")
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TEXT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedCompositeFieldContainer[WorkloadCount]
    device: _common_pb2.Device
    device_text: str
    budget: Budget
    policy: _common_pb2.MeasurePolicy
    seed: int
    force: bool
    title: str
    objectives: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, workloads: _Optional[_Iterable[_Union[WorkloadCount, _Mapping]]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., device_text: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ..., policy: _Optional[_Union[_common_pb2.MeasurePolicy, _Mapping]] = ..., seed: _Optional[int] = ..., force: _Optional[bool] = ..., title: _Optional[str] = ..., objectives: _Optional[_Iterable[str]] = ...) -> None: ...

class WorkloadResult(_message.Message):
    __slots__ = ("workload", "count", "trials", "failed", "verified", "cached", "basis", "max_error", "error_ratio", "default_s", "best_s", "best_ci", "bound_s", "bound", "schedule", "spearman", "artifact_sha256", "seconds", "error", "front", "pairwise", "top1_regret", "top5_regret", "coverage", "waited")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    MAX_ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_S_FIELD_NUMBER: _ClassVar[int]
    BEST_S_FIELD_NUMBER: _ClassVar[int]
    BEST_CI_FIELD_NUMBER: _ClassVar[int]
    BOUND_S_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    SPEARMAN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FRONT_FIELD_NUMBER: _ClassVar[int]
    PAIRWISE_FIELD_NUMBER: _ClassVar[int]
    TOP1_REGRET_FIELD_NUMBER: _ClassVar[int]
    TOP5_REGRET_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    WAITED_FIELD_NUMBER: _ClassVar[int]
    workload: str
    count: int
    trials: int
    failed: int
    verified: bool
    cached: bool
    basis: _common_pb2.Basis
    max_error: float
    error_ratio: float
    default_s: float
    best_s: float
    best_ci: Interval
    bound_s: float
    bound: str
    schedule: _common_pb2.Schedule
    spearman: float
    artifact_sha256: str
    seconds: float
    error: str
    front: _containers.RepeatedCompositeFieldContainer[Tradeoff]
    pairwise: float
    top1_regret: float
    top5_regret: float
    coverage: float
    waited: float
    def __init__(self, workload: _Optional[str] = ..., count: _Optional[int] = ..., trials: _Optional[int] = ..., failed: _Optional[int] = ..., verified: _Optional[bool] = ..., cached: _Optional[bool] = ..., basis: _Optional[_Union[_common_pb2.Basis, str]] = ..., max_error: _Optional[float] = ..., error_ratio: _Optional[float] = ..., default_s: _Optional[float] = ..., best_s: _Optional[float] = ..., best_ci: _Optional[_Union[Interval, _Mapping]] = ..., bound_s: _Optional[float] = ..., bound: _Optional[str] = ..., schedule: _Optional[_Union[_common_pb2.Schedule, _Mapping]] = ..., spearman: _Optional[float] = ..., artifact_sha256: _Optional[str] = ..., seconds: _Optional[float] = ..., error: _Optional[str] = ..., front: _Optional[_Iterable[_Union[Tradeoff, _Mapping]]] = ..., pairwise: _Optional[float] = ..., top1_regret: _Optional[float] = ..., top5_regret: _Optional[float] = ..., coverage: _Optional[float] = ..., waited: _Optional[float] = ...) -> None: ...

class Tradeoff(_message.Message):
    __slots__ = ("schedule", "seconds", "joules", "bytes")
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    schedule: _common_pb2.Schedule
    seconds: float
    joules: float
    bytes: int
    def __init__(self, schedule: _Optional[_Union[_common_pb2.Schedule, _Mapping]] = ..., seconds: _Optional[float] = ..., joules: _Optional[float] = ..., bytes: _Optional[int] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "state", "spec", "created", "updated", "trials", "failed", "results", "best_s", "error", "cancel_requested")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    BEST_S_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: JobState
    spec: JobSpec
    created: float
    updated: float
    trials: int
    failed: int
    results: _containers.RepeatedCompositeFieldContainer[WorkloadResult]
    best_s: float
    error: str
    cancel_requested: bool
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., created: _Optional[float] = ..., updated: _Optional[float] = ..., trials: _Optional[int] = ..., failed: _Optional[int] = ..., results: _Optional[_Iterable[_Union[WorkloadResult, _Mapping]]] = ..., best_s: _Optional[float] = ..., error: _Optional[str] = ..., cancel_requested: _Optional[bool] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "after_event")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_event: int
    def __init__(self, job_id: _Optional[str] = ..., after_event: _Optional[int] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class ResumeJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("job_id", "number", "time", "kind", "state", "phase", "trial", "result", "extra")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    number: int
    time: float
    kind: str
    state: StateChanged
    phase: PhaseChanged
    trial: TrialFinished
    result: WorkloadResult
    extra: _struct_pb2.Struct
    def __init__(self, job_id: _Optional[str] = ..., number: _Optional[int] = ..., time: _Optional[float] = ..., kind: _Optional[str] = ..., state: _Optional[_Union[StateChanged, _Mapping]] = ..., phase: _Optional[_Union[PhaseChanged, _Mapping]] = ..., trial: _Optional[_Union[TrialFinished, _Mapping]] = ..., result: _Optional[_Union[WorkloadResult, _Mapping]] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class StateChanged(_message.Message):
    __slots__ = ("state", "error")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    error: str
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., error: _Optional[str] = ...) -> None: ...

class PhaseChanged(_message.Message):
    __slots__ = ("workload", "phase")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    workload: str
    phase: str
    def __init__(self, workload: _Optional[str] = ..., phase: _Optional[str] = ...) -> None: ...

class TrialFinished(_message.Message):
    __slots__ = ("workload", "trial", "trials", "outcome", "seconds", "best_s", "failed", "schedule", "eta_s", "done", "total")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    BEST_S_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    workload: str
    trial: int
    trials: int
    outcome: str
    seconds: float
    best_s: float
    failed: int
    schedule: _common_pb2.Schedule
    eta_s: float
    done: int
    total: int
    def __init__(self, workload: _Optional[str] = ..., trial: _Optional[int] = ..., trials: _Optional[int] = ..., outcome: _Optional[str] = ..., seconds: _Optional[float] = ..., best_s: _Optional[float] = ..., failed: _Optional[int] = ..., schedule: _Optional[_Union[_common_pb2.Schedule, _Mapping]] = ..., eta_s: _Optional[float] = ..., done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...
