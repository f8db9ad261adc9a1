"""What the host and its worker processes say to each other: one request, one reply, as canonical bytes.

A frame is an 8-byte big-endian length and the canonical encoding of ``(message name, fields)``. Frames travel
over a Unix socket pair, so that a request can carry file descriptors (the shared memory of a session).
"""

from __future__ import annotations

import struct
from typing import Any

import attrs

from fettle.backends.api import Artifact, Candidate, Device, Measurement, MeasurePolicy, Profile
from fettle.backends.host.operands import Manifest
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload

HEADER = struct.Struct(">Q")
MAX_FRAME = 1 << 30
"""Bytes of the largest frame accepted; a longer one means that a kernel wrote over the worker's memory."""

BUILD = "build"
MEASURE = "measure"


@attrs.frozen
class Setup:
    """The first request: who the worker works for.

    Attributes:
        backend: ``module:Class``.
        role: ``build`` or ``measure``; only a measuring worker keeps the backend's choice of processors.
        path: the host's module search path, so that whatever the host imported can be imported.
        packed_budget: bytes of packed constants a measuring worker keeps.
    """

    backend: str
    device: Device
    role: str
    path: tuple[str, ...] = ()
    packed_budget: int = 1 << 30


@attrs.frozen
class Done:
    """The request was carried out, or why not (Setup, Open, Close, Unload)."""

    error: str = ""


@attrs.frozen
class Build:
    """Compile a candidate. The reply is Built."""

    candidate: Candidate


@attrs.frozen
class Built:
    """Exactly one of the two is given."""

    artifact: Artifact | None = None
    failure: Measurement | None = None


@attrs.frozen
class Open:
    """Map a session's operands and reference; the frame carries the memory's descriptor."""

    session: int
    workload: Workload
    manifest: Manifest


@attrs.frozen
class Close:
    """Forget a session. The reply is Done."""

    session: int


@attrs.frozen
class Evaluate:
    """Load, verify and measure an artifact. The reply is Evaluated."""

    session: int
    artifact: Artifact
    policy: MeasurePolicy


@attrs.frozen
class Evaluated:
    """Verdict and measurement of a kernel, as :class:`fettle.backends.host.executor.TrialResult` has them."""

    measurement: Measurement
    verified: bool
    max_error: float | None = None
    error_ratio: float | None = None


@attrs.frozen
class Load:
    """Load and verify an artifact, and keep it at hand as number ``slot``. The reply is Evaluated, without samples."""

    session: int
    slot: int
    artifact: Artifact


@attrs.frozen
class Sample:
    """Measure a loaded artifact once; ``policy.samples`` is 1. The reply is Evaluated."""

    slot: int
    policy: MeasurePolicy


@attrs.frozen
class Unload:
    """Forget all loaded artifacts."""


@attrs.frozen
class TakeProfile:
    """Measure the roofs of the device. The reply is Profiled."""


@attrs.frozen
class Profiled:
    """Exactly one of the two is given."""

    profile: Profile | None = None
    error: str = ""


Request = Setup | Build | Open | Close | Evaluate | Load | Sample | Unload | TakeProfile
Reply = Done | Built | Evaluated | Profiled

_MESSAGES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Setup, Build, Open, Close, Evaluate, Load, Sample, Unload, TakeProfile),
        *(Done, Built, Evaluated, Profiled),
    )
}


def frame(message: Request | Reply) -> bytes:
    """A message with its length in front."""
    body = codec.encode((type(message).__name__, codec.to_data(message)))
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Bytes that follow a header.

    Raises:
        InvalidArgument: more than a frame may have.
    """
    length = int(HEADER.unpack(header)[0])
    if length > MAX_FRAME:
        raise InvalidArgument(f"frame of {length} bytes")
    return length


def parse(body: bytes) -> Any:
    """The message of a frame's body.

    Raises:
        InvalidArgument: the bytes are no message.
    """
    value = codec.decode(body)
    if not (isinstance(value, tuple) and len(value) == 2 and value[0] in _MESSAGES):
        raise InvalidArgument("the bytes are not a message")
    return codec.from_data(_MESSAGES[value[0]], value[1])
