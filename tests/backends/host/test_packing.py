from __future__ import annotations

import numpy as np
from fake_backend import FakeKernel
from helpers import QUANTISED

from fettle.backends.host.packing import Packed, PackedConstants, PackedOnce


def make(size: int, log: list[int]) -> Packed:
    log.append(size)
    return (np.zeros(size, np.uint8),)


def test_the_least_recently_used_constants_go_first() -> None:
    log: list[int] = []
    kept = PackedConstants(budget=100)
    for size in (40, 41, 40, 42, 40, 41):  # 41 is the oldest when 42 comes
        kept.get(size, lambda size=size: make(size, log))  # type: ignore[misc]
    assert log == [40, 41, 42, 41]
    assert kept.nbytes <= 100


def test_constants_beyond_the_budget_are_used_but_not_kept() -> None:
    log: list[int] = []
    kept = PackedConstants(budget=100)
    assert kept.get("big", lambda: make(101, log))[0].size == 101
    assert kept.nbytes == 0


def test_dropping_forgets_only_what_belongs() -> None:
    kept = PackedConstants(budget=100)
    kept.get((1, "a"), lambda: make(10, []))
    kept.get((2, "a"), lambda: make(20, []))
    kept.drop(lambda key: key == (1, "a"))
    assert kept.nbytes == 20


def test_a_kernel_packed_once_passes_for_the_kernel_itself() -> None:
    kernel = FakeKernel(QUANTISED, "ok", 7)
    packed = (np.zeros(3),)
    wrapped = PackedOnce(kernel, lambda _: packed)
    assert isinstance(wrapped, FakeKernel)
    assert wrapped.tag == 7
    assert wrapped.pack([]) is packed
