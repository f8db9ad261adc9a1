"""Ethos-U: Vela compiles our networks whole, and its estimates come back marked as estimates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import pytest

from fettle.backends.api import Basis, Simulation, Value
from fettle.backends.npu.ethos import check, networks
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload
from fettle.search.jobs import run_job
from fettle.store.lookup import lookup
from fettle.store.open import open_store
from fettle.store.specs import Budget, JobSpec

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


OPEN = {
    "npu:ethos-u55": ({32, 64, 128, 256}, {"Shared_Sram", "Sram_Only"}),
    "npu:ethos-u65": ({256, 512}, 6),
    "npu:ethos-u85": ({128, 256, 512, 1024, 2048}, 6),
    "npu:ethos-u85,memory=Sram_Only": ({128, 256, 512, 1024, 2048}, None),
    "npu:ethos-u85-1024": (None, 6),
    "npu:ethos-u85-1024,memory=Dedicated_Sram": (None, None),
}
"""What devices leave open: units, and memory modes (or how many)."""


@pytest.mark.parametrize("text", OPEN)
def test_a_schedule_says_what_the_device_leaves_open(text: str) -> None:
    pytest.importorskip("ethosu.vela")
    units, modes = OPEN[text]
    backend, device = resolve_device(text)
    workload = Workload.parse(PRODUCT)
    choices = {parameter.name: parameter.choices for parameter in backend.space(workload, device).parameters}
    assert set(choices.get("accelerator", ())) == (units or set())
    found = set(choices.get("memory", ()))
    assert found == modes if isinstance(modes, set) else len(found) == (modes or 0)
    assert backend.default(workload, device).as_dict().keys() == choices.keys()


def test_a_system_is_the_same_whether_device_or_schedule_say_it() -> None:
    said = {"accelerator": 128, "memory": "Sram_Only"}
    of_schedule = simulate(PRODUCT, "npu:ethos-u55", said)
    of_device = simulate(PRODUCT, "npu:ethos-u55-128,memory=Sram_Only")
    assert said.items() <= of_schedule.schedule.as_dict().items()
    assert said.keys().isdisjoint(of_device.schedule.as_dict())
    assert attrs.evolve(of_schedule, schedule=of_device.schedule) == of_device


def test_no_mapping_of_a_family_beats_its_largest_accelerator() -> None:
    backend, family = resolve_device("npu:ethos-u85")
    _, largest = resolve_device("npu:ethos-u85-2048")
    (roof,), (same,) = (backend.profile(device).roofs for device in (family, largest))
    assert roof.value == same.value == 2 * 2048 * 1e9


def test_a_split_product_keeps_its_weights_and_adds_operators() -> None:
    whole = simulate(PRODUCT, "npu:ethos-u85-256")
    halves = simulate(PRODUCT, "npu:ethos-u85-256", {"split": 2})
    assert dict(halves.commands)["operators"] > dict(whole.commands)["operators"]


@pytest.mark.parametrize("preset", ["ethos-u55-128", "ethos-u85-256"])
def test_the_trace_is_velas_command_stream(preset: str) -> None:
    """Its operations cover every element of the result, and each of them once."""
    pytest.importorskip("ethosu.vela")
    backend, device = resolve_device(f"npu:{preset}")
    result = backend.simulate(Workload.parse(PRODUCT), device, {"form": "conv_row"}, trace=True)
    covered = 0
    for line in result.trace:
        if area := re.search(r"OFM area \[([0-9, ]+) - ([0-9, ]+)\]", line):
            low, high = (np.array([int(x) for x in part.split(",")]) for part in area.groups())
            covered += int((high - low).prod())
        else:
            assert line.startswith("DMA"), line
    assert covered == 64 * 128


def test_what_vela_is_not_given() -> None:
    backend, device = resolve_device("npu:ethos-u85-256")
    for weight in ("mxint8", "mxfp8", "mxfp4", "nvfp4"):
        product = Workload.parse(f"matmul m=8 n=64 k=128 act=f32 weight={weight}")
        assert "exponents of its own" in backend.supports(product, device).reason
    with pytest.raises(Unsupported, match="takes matmul"):
        backend.simulate(Workload.parse("softmax rows=8 cols=8 act=f32"), device, {})
    with pytest.raises(InvalidArgument, match="no parameter 'accelerator'"):
        backend.simulate(Workload.parse(PRODUCT), device, {"accelerator": 512})
    with pytest.raises(InvalidArgument, match="accelerator"):
        backend.simulate(Workload.parse(PRODUCT), resolve_device("npu:ethos-u85")[1], {"accelerator": 32})
    with pytest.raises(InvalidArgument, match="optimise"):
        backend.simulate(Workload.parse(PRODUCT), device, {"optimise": "Both"})
    with pytest.raises(Unsupported, match="compiles itself"):
        backend.simulate_trace(device, ["DMA"])


NETWORKS = [
    "matmul m=12 n=24 k=40 act=i8 weight=i8",
    "matmul m=7 n=16 k=64 act=f32 weight=u4:32",
    "conv2d n=1 c=5 h=9 w=7 oc=4 kh=3 kw=3 stride=1 pad=1 act=f32 weight=f32",
    "conv2d n=1 c=3 h=9 w=8 oc=4 kh=3 kw=2 stride=2 pad=0 act=f32 weight=f32",
    "elementwise shape=3x40 act=f32 expr=x0*x1",
    "elementwise shape=3x40 act=f32 expr=x0-x1",
]


@pytest.mark.parametrize("text", NETWORKS)
def test_every_way_of_writing_a_network_computes_the_workload(text: str) -> None:
    pytest.importorskip("ethosu.vela")
    workload = Workload.parse(text)
    parameters, _ = networks.choices(workload)
    ways = itertools.product(*(parameter.choices for parameter in parameters))
    for way in ways:
        choice = dict(zip((parameter.name for parameter in parameters), way, strict=True))
        assert check.what_is_wrong(workload, networks.write(workload, choice)) == ""


def test_a_network_with_other_weights_is_wrong() -> None:
    pytest.importorskip("ethosu.vela")
    workload = Workload.parse("matmul m=12 n=24 k=40 act=i8 weight=i8")
    network = bytearray(networks.write(workload, networks.textbook(workload)))
    weights = networks.weight(workload).tobytes()
    at = bytes(network).index(weights)
    network[at : at + 40] = weights[40:80]  # the second output's in the place of the first's
    assert "off by" in check.what_is_wrong(workload, bytes(network))


def test_results_of_a_network_are_worth_comparing() -> None:
    """Steps are spread over the whole range of int8, and few results saturate."""
    pytest.importorskip("ethosu.vela")
    from fettle.backends.npu.ethos import interpret

    workload = Workload.parse("matmul m=64 n=32 k=512 act=i8 weight=i8")
    network = networks.write(workload, networks.textbook(workload))
    (shape,) = interpret.input_shapes(network)
    x = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    values = interpret.run(network, [x]).values
    assert np.mean(np.abs(values.astype(int)) > 16) > 0.3
    assert np.mean(np.abs(values.astype(int)) >= 127) < 0.01


def test_tuning_keeps_the_compiled_file_and_calls_its_time_an_estimate(tmp_path: Path) -> None:
    pytest.importorskip("ethosu.vela")
    backend, device = resolve_device("npu:ethos-u55-128")
    workload = Workload.parse("matmul m=4 n=16 k=32 act=i8 weight=i8")
    with open_store(f"sqlite:///{tmp_path}/store.sqlite3") as store:
        job, _ = store.create_job(JobSpec(((workload, 1),), device, str(device), Budget(trials=4)))
        (result,) = run_job(store, job.id).results
        assert (result.error, result.basis, result.verified) == ("", Basis.ESTIMATED, False)
        artifact = store.get_artifact(result.artifact_sha256)
        assert artifact.payload[4:8] == b"TFL3"
        assert artifact.toolchain.startswith("vela-")
        found = lookup(store, workload, device)
        assert found.kernel is None
        assert [miss.nearest for miss in found.misses] == ["estimated"]
        with pytest.raises(Unsupported):
            backend.load(artifact)


@pytest.mark.parametrize(
    "text",
    [
        "npu:ethos-u99-256",
        "npu:ethos-u55-256,memory=Tape",
        "npu:ethos-u55,memory=Dedicated_Sram",
        "npu:ethos",
        "npu:ethos-u55-256,rows=3",
    ],
)
def test_wrong_devices_are_refused(text: str) -> None:
    with pytest.raises(InvalidDevice):
        resolve_device(text)
