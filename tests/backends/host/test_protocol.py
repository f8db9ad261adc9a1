from __future__ import annotations

import pytest
from fake_backend import DEVICE
from helpers import POLICY, QUANTISED, artifact, candidate
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Measurement, Outcome, Profile, Roof
from fettle.backends.host.operands import SharedOperands
from fettle.backends.host.protocol import (
    HEADER,
    MAX_FRAME,
    Build,
    Built,
    Close,
    Done,
    Evaluate,
    Evaluated,
    Load,
    Open,
    Profiled,
    Reply,
    Request,
    Sample,
    Setup,
    TakeProfile,
    Unload,
    body_length,
    frame,
    parse,
)
from fettle.graph.errors import InvalidArgument

MEASUREMENT = Measurement(Outcome.OK, (1.0, 2.5e-7), counters=(("calls", 3), ("mode", "hot")), energy=0.5)
MESSAGES: list[Request | Reply] = [
    Setup("module:Class", DEVICE, "build", ("/a", "/b")),
    Done(),
    Done("why not"),
    Build(candidate(tile=8, algorithm="lut", unroll=True, ratio=0.5)),
    Built(artifact(layout="r16", tile=4)),
    Built(failure=Measurement.failure(Outcome.COMPILE_ERROR, "no")),
    Open(3, QUANTISED, SharedOperands(QUANTISED, 0).manifest),
    Close(3),
    Evaluate(3, artifact(), POLICY),
    Evaluated(MEASUREMENT, True, 1e-9, 0.25),
    Evaluated(Measurement.failure(Outcome.CRASH, "x"), False),
    Evaluated(Measurement.failure(Outcome.WRONG_RESULT, "x"), False, float("inf"), float("inf")),
    Load(1, 2, artifact()),
    Sample(2, POLICY),
    Unload(),
    TakeProfile(),
    Profiled(Profile(DEVICE.key, (Roof("read:L2", 1e11, 2, 1 << 20),))),
    Profiled(error="no"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_wire(message: Request | Reply) -> None:
    data = frame(message)
    assert body_length(data[: HEADER.size]) == len(data) - HEADER.size
    assert parse(data[HEADER.size :]) == message


@given(st.binary(max_size=200))
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse(data)


def test_an_absurd_length_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        body_length(HEADER.pack(MAX_FRAME + 1))
