"""Ethos-U: Vela compiles our networks whole, and its estimates come back marked as estimates."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fettle.backends.api import Basis, Simulation, Value
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload

PRODUCT = "matmul m=64 n=128 k=256 act=i8 weight=i8"


def simulate(text: str, device: str, schedule: Mapping[str, Value] | None = None) -> Simulation:
    pytest.importorskip("ethosu.vela")
    backend, resolved = resolve_device(device)
    return backend.simulate(Workload.parse(text), resolved, schedule or {})


@pytest.mark.parametrize(
    ("text", "device", "schedule", "least"),
    [
        (PRODUCT, "npu:ethos-u85-256", {}, 64 * 128 * 256 / 256),
        (PRODUCT, "npu:ethos-u55-128", {"form": "conv_square", "split": 2, "optimise": "Size"}, 64 * 128 * 256 / 128),
        (
            "conv2d n=1 c=16 h=16 w=16 oc=32 kh=3 kw=3 stride=1 pad=1 act=f32 weight=f32",
            "npu:ethos-u65-256",
            {"allocator": "Greedy", "cascading": False},
            16 * 16 * 16 * 32 * 9 / 256,
        ),
        ("elementwise shape=8x512 act=f32 expr=x0*x1", "npu:ethos-u85-128,memory=Sram_Only", {}, 1),
    ],
)
def test_vela_estimates(text: str, device: str, schedule: dict[str, Value], least: float) -> None:
    result = simulate(text, device, schedule)
    counters = dict(result.counters)
    assert result.basis is Basis.ESTIMATED
    assert result.cycles >= counters["compute_cycles"] >= least  # the array does so many products a cycle
    assert counters["compiled_bytes"] > 0
    assert str(counters["toolchain"]).startswith("vela-")
    assert result.energy is None


def test_a_split_product_keeps_its_weights_and_adds_operators() -> None:
    whole = simulate(PRODUCT, "npu:ethos-u85-256")
    halves = simulate(PRODUCT, "npu:ethos-u85-256", {"split": 2})
    assert dict(halves.commands)["operators"] > dict(whole.commands)["operators"]


def test_what_vela_is_not_given() -> None:
    backend, device = resolve_device("npu:ethos-u85-256")
    with pytest.raises(Unsupported, match="takes matmul"):
        backend.simulate(Workload.parse("softmax rows=8 cols=8 act=f32"), device, {})
    with pytest.raises(InvalidArgument, match="optimise"):
        backend.simulate(Workload.parse(PRODUCT), device, {"optimise": "Both"})
    assert "verify" in backend.supports(Workload.parse(PRODUCT), device).reason


@pytest.mark.parametrize("text", ["npu:ethos-u99-256", "npu:ethos-u55-256,memory=Tape", "npu:ethos-u55-256,rows=3"])
def test_wrong_devices_are_refused(text: str) -> None:
    with pytest.raises(InvalidDevice):
        resolve_device(text)
