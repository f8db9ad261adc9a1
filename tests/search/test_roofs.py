"""Bounds stay below what was measured, even when the first profile was disturbed."""

from __future__ import annotations

import math

import attrs
import pytest

from fettle.backends.api import Bound, Device, MeasurePolicy, Profile, Roof
from fettle.backends.host.executor import Executor, Session
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.roofs import Roofs, higher
from fettle.store.memory import MemoryStore
from tests.search.synthetic import DEVICE, SyntheticBackend, workload

GEMM = workload()


@attrs.define(eq=False)
class ProfilingExecutor(Executor):
    """Gives out profiles with these peaks, in turn."""

    peaks: list[float]

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        raise AssertionError("nothing is opened to measure roofs")

    def profile(self) -> Profile:
        return Profile(DEVICE.key, (Roof("peak:f32", self.peaks.pop(0)),))

    def close(self) -> None:
        pass

    @property
    def device(self) -> Device:
        return DEVICE


class PeakBackend(SyntheticBackend):
    """Whose bound follows the profile."""

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        roof = profile.roof("peak:f32", 1)
        assert roof is not None
        return Bound(workload.flops / roof.value, roof.name)


def roofs(peaks: list[float], store: MemoryStore) -> Roofs:
    return Roofs(store, PeakBackend(), DEVICE, ProfilingExecutor(peaks), lambda: None)


def test_a_kernel_that_beats_a_stored_bound_has_the_roofs_measured_again() -> None:
    store = MemoryStore()
    store.put_device(DEVICE)
    store.put_profile(Profile(DEVICE.key, (Roof("peak:f32", 1e9),)))
    measured = GEMM.flops / 2e9
    bound = roofs([4e9], store).bound_below(GEMM, measured)
    assert bound.seconds == GEMM.flops / 4e9
    stored = store.get_profile(DEVICE.key)
    assert stored is not None
    assert stored.roofs == (Roof("peak:f32", 4e9),)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_that_is_no_time_is_refused_by_name(seconds: float) -> None:
    class Boundless(SyntheticBackend):
        def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
            return Bound(seconds, "none")

    found = Roofs(MemoryStore(), Boundless(), DEVICE, ProfilingExecutor([1e9]), lambda: None)
    with pytest.raises(InvalidArgument, match="the bound of matmul"):
        found.bound(GEMM)


def test_a_slower_second_profile_lowers_no_roof() -> None:
    store = MemoryStore()
    store.put_device(DEVICE)
    store.put_profile(Profile(DEVICE.key, (Roof("peak:f32", 2e9), Roof("read:dram", 5e9))))
    found = roofs([1e9], store)
    found.bound_below(GEMM, GEMM.flops / 3e9)
    assert found.profile.roofs == (Roof("peak:f32", 2e9), Roof("read:dram", 5e9))


def test_roofs_that_a_kernel_beats_are_measured_once_more_even_if_just_measured_and_then_no_more() -> None:
    store = MemoryStore()
    store.put_device(DEVICE)
    found = roofs([1e9, 2e9], store)
    assert found.bound_below(GEMM, GEMM.flops / 3e9).seconds == GEMM.flops / 2e9
    assert found.bound_below(GEMM, GEMM.flops / 4e9) == found.bound(GEMM)


def test_roofs_differ_by_thread_count() -> None:
    one = Profile("k", (Roof("read:L3", 1.0, 1), Roof("read:L3", 2.0, 2)))
    two = Profile("k", (Roof("read:L3", 3.0, 1),))
    assert set(higher(one, two).roofs) == {Roof("read:L3", 3.0, 1), Roof("read:L3", 2.0, 2)}


def test_what_either_profile_has_measured_is_not_missing() -> None:
    one = Profile("k", (Roof("peak:f16", 1.0),), (("peak:f8", "busy"), ("peak:i8", "busy")))
    two = Profile("k", (Roof("peak:f8", 2.0),), (("peak:f16", "busy"), ("peak:i8", "no such unit")))
    assert higher(one, two).missing == (("peak:i8", "no such unit"),)
