"""The system must permit tile registers, and the machine must have them: checked before a kernel is linked."""

from __future__ import annotations

import errno

import attrs
import pytest

from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import permission
from fettle.graph.errors import Unsupported
from tests.backends.cpu.amx.support import BACKEND, candidate

REQUEST = permission._request
"""The real one: the folder's fixture replaces it."""

LACKING = not cpu.Machine.detect().features >= cpu.TILES

TEXT = "matmul m=16 n=32 k=64 act=f32 weight=u4:64"


def test_a_refusal_is_unsupported_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = BACKEND.build(candidate(TEXT))
    plain = BACKEND.build(candidate(TEXT, algorithm="vnni", rows=8))
    permission.permit.cache_clear()
    asked: list[int] = []
    answers = [errno.EPERM, errno.EPERM, 0]
    monkeypatch.setattr(permission, "_request", lambda: asked.append(answers[len(asked)]) or asked[-1])
    for _ in range(2):
        with pytest.raises(Unsupported, match=r"not permitted.*isa=avx512vnni"):
            BACKEND.load(artifact)
    BACKEND.load(plain)  # kernels without tile instructions ask for nothing
    assert len(asked) == 2
    for _ in range(3):
        BACKEND.load(artifact)
    assert len(asked) == 3


def test_a_machine_without_tiles_does_not_load_kernels_that_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = BACKEND.build(candidate(TEXT))
    without = attrs.evolve(cpu.Machine.detect(), features=cpu.Machine.detect().features - cpu.TILES)
    monkeypatch.setattr(cpu.Machine, "detect", classmethod(lambda cls: without))
    with pytest.raises(Unsupported, match="amx-int8 amx-tile"):
        BACKEND.load(artifact)


def test_the_system_call_answers_with_an_error_number_where_there_are_no_tiles() -> None:
    number = REQUEST()
    assert number in errno.errorcode if LACKING else number == 0
