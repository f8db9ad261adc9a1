"""Values, schedules, devices, policies and enums."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from fettle.backends.api import Basis, Device, MeasurePolicy, Schedule, Value
from fettle.graph.errors import InvalidArgument
from fettle.v1 import common_pb2 as pb

E = TypeVar("E", bound=enum.Enum)

_MOST = {"warmup": 10_000, "min_sample": 60.0, "samples": 10_000, "timeout": 3600.0}
"""Largest values of a policy that a client may ask for."""

_INT64 = range(-(2**63), 2**63)


class EnumWrapper(Protocol):
    """What protobuf generates for an enum."""

    def Name(self, number: int) -> str: ...  # noqa: N802

    def Value(self, name: str) -> int: ...  # noqa: N802


def enum_to_proto(wrapper: EnumWrapper, prefix: str, value: enum.Enum) -> Any:
    """Number of ``prefix_NAME``; of type Any, because stubs call numbers by the name of their enum."""
    return wrapper.Value(f"{prefix}_{value.name}")


def enum_from_proto(wrapper: EnumWrapper, prefix: str, cls: type[E], number: int, field: str) -> E:
    """Member of ``cls`` with the name of the number.

    Raises:
        InvalidArgument: unspecified, or a number this version does not know.
    """
    try:
        return cls[wrapper.Name(number).removeprefix(f"{prefix}_")]
    except (ValueError, KeyError):
        raise InvalidArgument(f"{field} has no known value ({number})", details={"field": field}) from None


def value_to_proto(value: Value) -> pb.Value:
    """One parameter or fact.

    Raises:
        InvalidArgument: an integer beyond 64 bits.
    """
    if isinstance(value, bool):
        return pb.Value(flag=value)
    if isinstance(value, int):
        if value not in _INT64:
            raise InvalidArgument(f"{value} does not fit 64 bits")
        return pb.Value(integer=value)
    if isinstance(value, float):
        return pb.Value(number=value)
    return pb.Value(text=value)


def value_from_proto(message: pb.Value, field: str) -> Value:
    """Inverse of :func:`value_to_proto`.

    Raises:
        InvalidArgument: no value is set.
    """
    match message.WhichOneof("kind"):
        case "flag":
            return message.flag
        case "integer":
            return message.integer
        case "number":
            return message.number
        case "text":
            return message.text
    raise InvalidArgument(f"{field} has no value", details={"field": field})


def pairs_to_proto(pairs: Iterable[tuple[str, Value]]) -> dict[str, pb.Value]:
    """Pairs as a protobuf map."""
    return {name: value_to_proto(value) for name, value in pairs}


def pairs_from_proto(messages: Mapping[str, pb.Value], field: str) -> dict[str, Value]:
    """Inverse of :func:`pairs_to_proto`."""
    return {name: value_from_proto(message, f"{field}[{name}]") for name, message in messages.items()}


def schedule_to_proto(schedule: Schedule) -> pb.Schedule:
    return pb.Schedule(values=pairs_to_proto(schedule.values))


def schedule_from_proto(message: pb.Schedule) -> Schedule:
    return Schedule(tuple(pairs_from_proto(message.values, "schedule.values").items()))


def device_to_proto(device: Device) -> pb.Device:
    return pb.Device(
        backend=device.backend,
        preset=device.preset,
        facts=pairs_to_proto(device.facts),
        limits=pairs_to_proto(device.limits),
        label=device.label,
    )


def device_from_proto(message: pb.Device) -> Device:
    """Raises InvalidArgument without a backend."""
    if not message.backend:
        raise InvalidArgument("the device names no backend", details={"field": "device.backend"})
    return Device(
        backend=message.backend,
        preset=message.preset,
        facts=tuple(pairs_from_proto(message.facts, "device.facts").items()),
        limits=tuple(pairs_from_proto(message.limits, "device.limits").items()),
        label=message.label,
    )


def selector_to_proto(device: Device | str) -> pb.DeviceSelector:
    """A device text, or a full identity."""
    if isinstance(device, str):
        return pb.DeviceSelector(text=device)
    return pb.DeviceSelector(identity=device_to_proto(device))


def selector_from_proto(message: pb.DeviceSelector) -> Device | str:
    """Raises InvalidArgument if neither is given."""
    match message.WhichOneof("selector"):
        case "text":
            return message.text
        case "identity":
            return device_from_proto(message.identity)
    raise InvalidArgument("no device is given", details={"field": "device"})


def mode_to_proto(mode: str) -> pb.MeasureMode:
    """Raises InvalidArgument for anything but hot and cold."""
    modes = {"hot": pb.MEASURE_MODE_HOT, "cold": pb.MEASURE_MODE_COLD}
    if mode not in modes:
        raise InvalidArgument(f"measurement mode {mode!r} is neither hot nor cold", details={"field": "mode"})
    return modes[mode]


def mode_from_proto(number: int) -> str:
    """Unspecified means hot."""
    if number == pb.MEASURE_MODE_COLD:
        return "cold"
    if number in (pb.MEASURE_MODE_UNSPECIFIED, pb.MEASURE_MODE_HOT):
        return "hot"
    raise InvalidArgument(f"mode has no known value ({number})", details={"field": "mode"})


def policy_to_proto(policy: MeasurePolicy) -> pb.MeasurePolicy:
    return pb.MeasurePolicy(
        mode=mode_to_proto(policy.mode),
        warmup=policy.warmup,
        min_sample=policy.min_sample,
        samples=policy.samples,
        timeout=policy.timeout,
    )


def policy_from_proto(message: pb.MeasurePolicy) -> MeasurePolicy:
    """Absent fields take the defaults of :class:`MeasurePolicy`.

    Raises:
        InvalidArgument: out of range, or not a number.
    """
    given = {
        name: getattr(message, name)
        for name in ("warmup", "min_sample", "samples", "timeout")
        if message.HasField(name)
    }
    if not all(math.isfinite(value) for value in given.values()):
        raise InvalidArgument("the measurement policy has a number that is not finite", details={"field": "policy"})
    return MeasurePolicy(mode=mode_from_proto(message.mode), **given)


def policy_from_request(message: pb.MeasurePolicy) -> MeasurePolicy:
    """A policy that a client asks for.

    Raises:
        InvalidArgument: it would keep the server busy without end.
    """
    policy = policy_from_proto(message)
    for name, most in _MOST.items():
        if getattr(policy, name) > most:
            raise InvalidArgument(
                f"policy {name}={getattr(policy, name)}; at most {most} is allowed", details={"field": f"policy.{name}"}
            )
    return policy


def basis_to_proto(basis: Basis) -> pb.Basis:
    number: pb.Basis = enum_to_proto(pb.Basis, "BASIS", basis)
    return number


def basis_from_proto(number: int) -> Basis:
    return enum_from_proto(pb.Basis, "BASIS", Basis, number, "basis")
