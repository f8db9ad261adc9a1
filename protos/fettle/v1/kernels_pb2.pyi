from fettle.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Match(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MATCH_UNSPECIFIED: _ClassVar[Match]
    MATCH_NONE: _ClassVar[Match]
    MATCH_EXACT: _ClassVar[Match]
MATCH_UNSPECIFIED: Match
MATCH_NONE: Match
MATCH_EXACT: Match

class Kernel(_message.Message):
    __slots__ = ("key", "workload", "device", "schedule", "artifact_sha256", "mode", "basis", "default_s", "best_s", "best_ci_low", "best_ci_high", "bound_s", "bound", "max_error", "error_ratio", "trials", "job_id", "created", "toolchain", "abi", "isa", "space_version", "version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_S_FIELD_NUMBER: _ClassVar[int]
    BEST_S_FIELD_NUMBER: _ClassVar[int]
    BEST_CI_LOW_FIELD_NUMBER: _ClassVar[int]
    BEST_CI_HIGH_FIELD_NUMBER: _ClassVar[int]
    BOUND_S_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    MAX_ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATIO_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    TOOLCHAIN_FIELD_NUMBER: _ClassVar[int]
    ABI_FIELD_NUMBER: _ClassVar[int]
    ISA_FIELD_NUMBER: _ClassVar[int]
    SPACE_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    workload: str
    device: _common_pb2.Device
    schedule: _common_pb2.Schedule
    artifact_sha256: str
    mode: _common_pb2.MeasureMode
    basis: _common_pb2.Basis
    default_s: float
    best_s: float
    best_ci_low: float
    best_ci_high: float
    bound_s: float
    bound: str
    max_error: float
    error_ratio: float
    trials: int
    job_id: str
    created: float
    toolchain: str
    abi: str
    isa: _containers.RepeatedScalarFieldContainer[str]
    space_version: str
    version: int
    def __init__(self, key: _Optional[str] = ..., workload: _Optional[str] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., schedule: _Optional[_Union[_common_pb2.Schedule, _Mapping]] = ..., artifact_sha256: _Optional[str] = ..., mode: _Optional[_Union[_common_pb2.MeasureMode, str]] = ..., basis: _Optional[_Union[_common_pb2.Basis, str]] = ..., default_s: _Optional[float] = ..., best_s: _Optional[float] = ..., best_ci_low: _Optional[float] = ..., best_ci_high: _Optional[float] = ..., bound_s: _Optional[float] = ..., bound: _Optional[str] = ..., max_error: _Optional[float] = ..., error_ratio: _Optional[float] = ..., trials: _Optional[int] = ..., job_id: _Optional[str] = ..., created: _Optional[float] = ..., toolchain: _Optional[str] = ..., abi: _Optional[str] = ..., isa: _Optional[_Iterable[str]] = ..., space_version: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Miss(_message.Message):
    __slots__ = ("field", "wanted", "nearest")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    NEAREST_FIELD_NUMBER: _ClassVar[int]
    field: str
    wanted: str
    nearest: str
    def __init__(self, field: _Optional[str] = ..., wanted: _Optional[str] = ..., nearest: _Optional[str] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("workload", "device", "mode")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    workload: str
    device: _common_pb2.DeviceSelector
    mode: _common_pb2.MeasureMode
    def __init__(self, workload: _Optional[str] = ..., device: _Optional[_Union[_common_pb2.DeviceSelector, _Mapping]] = ..., mode: _Optional[_Union[_common_pb2.MeasureMode, str]] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("match", "key", "kernel", "misses")
    MATCH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    match: Match
    key: str
    kernel: Kernel
    misses: _containers.RepeatedCompositeFieldContainer[Miss]
    def __init__(self, match: _Optional[_Union[Match, str]] = ..., key: _Optional[str] = ..., kernel: _Optional[_Union[Kernel, _Mapping]] = ..., misses: _Optional[_Iterable[_Union[Miss, _Mapping]]] = ...) -> None: ...

class BatchLookupRequest(_message.Message):
    __slots__ = ("workloads", "device", "mode")
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedScalarFieldContainer[str]
    device: _common_pb2.DeviceSelector
    mode: _common_pb2.MeasureMode
    def __init__(self, workloads: _Optional[_Iterable[str]] = ..., device: _Optional[_Union[_common_pb2.DeviceSelector, _Mapping]] = ..., mode: _Optional[_Union[_common_pb2.MeasureMode, str]] = ...) -> None: ...

class BatchLookupResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LookupResponse]
    def __init__(self, results: _Optional[_Iterable[_Union[LookupResponse, _Mapping]]] = ...) -> None: ...

class GetArtifactRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: ArtifactHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[ArtifactHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class ArtifactHeader(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...

class ListKernelsRequest(_message.Message):
    __slots__ = ("device", "operator", "limit")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    device: _common_pb2.DeviceSelector
    operator: str
    limit: int
    def __init__(self, device: _Optional[_Union[_common_pb2.DeviceSelector, _Mapping]] = ..., operator: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListKernelsResponse(_message.Message):
    __slots__ = ("kernels",)
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    kernels: _containers.RepeatedCompositeFieldContainer[Kernel]
    def __init__(self, kernels: _Optional[_Iterable[_Union[Kernel, _Mapping]]] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stats(_message.Message):
    __slots__ = ("kernels", "records", "failed_records", "jobs", "devices", "workloads", "artifacts", "artifact_bytes")
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    FAILED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    kernels: int
    records: int
    failed_records: int
    jobs: int
    devices: int
    workloads: int
    artifacts: int
    artifact_bytes: int
    def __init__(self, kernels: _Optional[int] = ..., records: _Optional[int] = ..., failed_records: _Optional[int] = ..., jobs: _Optional[int] = ..., devices: _Optional[int] = ..., workloads: _Optional[int] = ..., artifacts: _Optional[int] = ..., artifact_bytes: _Optional[int] = ...) -> None: ...
