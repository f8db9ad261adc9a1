"""Roofs of tiles, and what they bound."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.backends.api import DeviceText, Profile, Roof
from fettle.backends.cpu import codegen, loader, profile
from fettle.backends.cpu.amx import permit
from fettle.backends.cpu.amx.peak import SUMS, tile_peak_kernel, tile_peaks
from fettle.backends.cpu.bound import workload_bound
from fettle.backends.cpu.family import Lowered
from fettle.graph.workload import Workload
from tests.backends.cpu.amx.support import BACKEND, device


@pytest.mark.parametrize(
    ("roof", "expected"),
    [("peak:amx-i8", np.int32(3 * 64)), ("peak:amx-bf16", np.float32(3 * 32 * 0.25))],
)
def test_every_tile_multiplies_in_every_step(roof: str, expected: np.generic) -> None:
    (peak,) = [p for p in tile_peaks(device()) if p.roof == roof]
    payload, facts = codegen.compile(Lowered(tile_peak_kernel(peak, 1)), device(), loader.ENTRY)
    products = dict(facts)["tile_products"]
    assert products
    assert products % SUMS == 0  # the loop may be unrolled
    assert peak.operations == 2 * 16 * 16 * (64 if roof.endswith("i8") else 32)
    permit()
    out = np.zeros(SUMS * 256, np.int32)
    loader.link(payload)[loader.ENTRY](np.full(256, peak.word, np.int32), out, 3)
    assert (out.view(expected.dtype) == expected).all()


def test_roofs_of_tiles_are_measured_where_there_are_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_SAMPLE_SECONDS", 1e-5)
    monkeypatch.setattr(profile, "_ROOF_SECONDS", 1e-4)
    roofs = list(profile._tile_peaks(device(), 1))
    assert {roof.name for roof in roofs} == {"peak:amx-i8", "peak:amx-bf16"}
    assert all(roof.value > 0 for roof in roofs)
    without = BACKEND.device(DeviceText.parse("cpu,isa=avx512vnni,threads=1"))
    assert not list(profile._tile_peaks(without, 1))


@pytest.mark.parametrize(
    ("text", "seconds", "roof"),
    [
        ("act=f32 weight=u8:128", 2 * 4096**3 / 6e12, "peak:amx-i8"),
        ("act=f32 weight=u1:128", 2 * 4096**3 / 8e12, "peak:i8"),  # look-ups of eight weights at once
        ("act=bf16 weight=bf16", 2 * 4096**3 / 3e12, "peak:amx-bf16"),
        ("act=f32 weight=f32", 2 * 4096**3 / 1e11, "peak:f32"),
    ],
)
def test_the_highest_peak_that_applies_bounds_a_product(text: str, seconds: float, roof: str) -> None:
    peaks = {"peak:f32": 1e11, "peak:i8": 1e12, "peak:amx-i8": 6e12, "peak:amx-bf16": 3e12}
    measured = Profile(device().key, tuple(Roof(name, value) for name, value in peaks.items()))
    bound = workload_bound(Workload.parse(f"matmul m=4096 n=4096 k=4096 {text}"), device(), measured)
    assert (bound.seconds, bound.roof) == (pytest.approx(seconds), roof)
