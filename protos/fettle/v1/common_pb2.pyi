from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Basis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASIS_UNSPECIFIED: _ClassVar[Basis]
    BASIS_MEASURED: _ClassVar[Basis]
    BASIS_SIMULATED: _ClassVar[Basis]
    BASIS_ESTIMATED: _ClassVar[Basis]
    BASIS_PREDICTED: _ClassVar[Basis]
    BASIS_REPLAYED: _ClassVar[Basis]

class MeasureMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEASURE_MODE_UNSPECIFIED: _ClassVar[MeasureMode]
    MEASURE_MODE_HOT: _ClassVar[MeasureMode]
    MEASURE_MODE_COLD: _ClassVar[MeasureMode]
BASIS_UNSPECIFIED: Basis
BASIS_MEASURED: Basis
BASIS_SIMULATED: Basis
BASIS_ESTIMATED: Basis
BASIS_PREDICTED: Basis
BASIS_REPLAYED: Basis
MEASURE_MODE_UNSPECIFIED: MeasureMode
MEASURE_MODE_HOT: MeasureMode
MEASURE_MODE_COLD: MeasureMode

class Value(_message.Message):
    __slots__ = ("integer", "number", "text", "flag")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    integer: int
    number: float
    text: str
    flag: bool
    def __init__(self, integer: _Optional[int] = ..., number: _Optional[float] = ..., text: _Optional[str] = ..., flag: _Optional[bool] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.MessageMap[str, Value]
    def __init__(self, values: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("backend", "preset", "facts", "limits", "label")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    backend: str
    preset: str
    facts: _containers.MessageMap[str, Value]
    limits: _containers.MessageMap[str, Value]
    label: str
    def __init__(self, backend: _Optional[str] = ..., preset: _Optional[str] = ..., facts: _Optional[_Mapping[str, Value]] = ..., limits: _Optional[_Mapping[str, Value]] = ..., label: _Optional[str] = ...) -> None: ...

class DeviceSelector(_message.Message):
    __slots__ = ("text", "identity")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    text: str
    identity: Device
    def __init__(self, text: _Optional[str] = ..., identity: _Optional[_Union[Device, _Mapping]] = ...) -> None: ...

class MeasurePolicy(_message.Message):
    __slots__ = ("mode", "warmup", "min_sample", "samples", "timeout")
    MODE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FIELD_NUMBER: _ClassVar[int]
    MIN_SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    mode: MeasureMode
    warmup: int
    min_sample: float
    samples: int
    timeout: float
    def __init__(self, mode: _Optional[_Union[MeasureMode, str]] = ..., warmup: _Optional[int] = ..., min_sample: _Optional[float] = ..., samples: _Optional[int] = ..., timeout: _Optional[float] = ...) -> None: ...
