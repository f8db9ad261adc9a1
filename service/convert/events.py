"""Job events: typed bodies for what every job says, a Struct for what is said beyond.

``JobEvent.data`` is plain data. What has a place in the body of its kind goes there; everything else (None, keys
and kinds of other versions) travels in ``extra``, so that the client reads exactly what the store has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor

from fettle.backends.api import Schedule
from fettle.graph import codec
from fettle.graph.errors import FettleError
from fettle.service.convert.jobs import state_from_proto, state_to_proto
from fettle.service.convert.results import result_from_proto, result_to_proto
from fettle.service.convert.values import schedule_from_proto, schedule_to_proto
from fettle.store.jobs import JobEvent, JobState, WorkloadResult
from fettle.v1 import tuning_pb2

_TYPES: dict[int, tuple[type, ...]] = {
    FieldDescriptor.TYPE_STRING: (str,),
    FieldDescriptor.TYPE_INT64: (int,),
    FieldDescriptor.TYPE_DOUBLE: (float, int),
}
"""Types a body's field takes; truth is no number here."""

_Body = tuning_pb2.PhaseChanged | tuning_pb2.TrialFinished


def event_to_proto(event: JobEvent) -> tuning_pb2.JobEvent:
    """An event as the store has it, for the wire."""
    message = tuning_pb2.JobEvent(job_id=event.job_id, number=event.number, time=event.time, kind=event.kind)
    match event.kind:
        case "state":
            extra = _put_state(message.state, event.data)
        case "phase":
            extra = _put(message.phase, event.data)
        case "trial":
            extra = _put(message.trial, event.data)
        case "result":
            extra = _put_result(message, event.data)
        case _:
            extra = event.data
    if extra:
        message.extra.update(_json(extra))
    return message


def event_from_proto(message: tuning_pb2.JobEvent) -> JobEvent:
    """Inverse of :func:`event_to_proto`."""
    data: dict[str, Any] = {}
    match message.WhichOneof("body"):
        case "state":
            data["state"] = state_from_proto(message.state.state).value
            if message.state.HasField("error"):
                data["error"] = message.state.error
        case "phase":
            data = _get(message.phase)
        case "trial":
            data = _get(message.trial)
        case "result":
            data = codec.to_data(result_from_proto(message.result))
    data |= {name: _plain(value) for name, value in message.extra.fields.items()}
    return JobEvent(message.job_id, message.number, message.time, message.kind, data)


def _put_state(body: tuning_pb2.StateChanged, data: Mapping[str, Any]) -> dict[str, Any]:
    extra = dict(data)
    if isinstance(extra.get("state"), str) and extra["state"] in {state.value for state in JobState}:
        body.state = state_to_proto(JobState(extra.pop("state")))
        if isinstance(extra.get("error"), str):
            body.error = extra.pop("error")
    return extra


def _put_result(message: tuning_pb2.JobEvent, data: Mapping[str, Any]) -> dict[str, Any]:
    try:
        message.result.CopyFrom(result_to_proto(codec.from_data(WorkloadResult, dict(data))))
    except FettleError:  # written by another version: it travels as it is
        return dict(data)
    return {}


def _put(body: _Body, data: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the body's fields; returns what has no place there."""
    body.SetInParent()
    extra = dict(data)
    for field in body.DESCRIPTOR.fields:
        value = extra.get(field.name)
        if field.name == "schedule":
            if not _is_schedule(value):
                continue
            body.schedule.CopyFrom(schedule_to_proto(Schedule(extra.pop("schedule"))))  # type: ignore[union-attr]
        elif type(value) in _TYPES[field.type]:
            setattr(body, field.name, extra.pop(field.name))
    return extra


def _get(body: _Body) -> dict[str, Any]:
    return {
        field.name: schedule_from_proto(value).as_dict() if field.name == "schedule" else value
        for field, value in body.ListFields()
    }


def _is_schedule(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(v, int | float | str | bool) for v in value.values())


def _json(value: Any) -> Any:
    """What a Struct can hold: mappings, lists, texts, numbers, truth, None."""
    if isinstance(value, Mapping):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _plain(value: struct_pb2.Value) -> Any:
    """Inverse of :func:`_json`; whole numbers come back as integers."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {name: _plain(item) for name, item in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            return int(value.number_value) if value.number_value.is_integer() else value.number_value
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None
