"""Energy is what the machine's counters tell, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fettle.backends.api import Artifact, MeasurePolicy
from fettle.backends.cpu import CpuBackend, measure
from fettle.backends.cpu.energy import EnergyCounters, Meter
from fettle.graph import data
from fettle.graph.workload import Workload

RANGE = 1_000_000


def domain(folder: Path, name: str, energy_uj: int | str = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Two packages, one with memory of its own, as Linux shows them."""
    (tmp_path / "intel-rapl").mkdir()
    for number in (0, 1):
        package = tmp_path / f"intel-rapl:{number}"
        domain(package, f"package-{number}", 100)
        domain(package / f"intel-rapl:{number}:0", "core", 100)
    domain(tmp_path / "intel-rapl:0" / "intel-rapl:0:1", "dram", 100)
    domain(tmp_path / "intel-rapl:2", "psys", 100)  # counts the packages once more
    domain(tmp_path / "intel-rapl:0:0", "core", 100)  # the class has links to subdomains too
    return tmp_path


def test_packages_and_their_memory_are_counted_once(machine: Path) -> None:
    found = EnergyCounters.find(machine)
    assert found is not None
    names = [counter.file.parent.name for counter in found.counters]
    assert names == ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"]
    assert found.read() == (100, 100, 100)


def test_differences_add_up_and_counters_that_wrapped_are_unwrapped(machine: Path) -> None:
    found = EnergyCounters.find(machine)
    assert found is not None
    assert found.joules((0, 0, 0), (1_000, 20_000, 300_000)) == pytest.approx(0.321)
    assert found.joules((RANGE - 10, 5, 5), (30, 5, 5)) == pytest.approx(40e-6)


@pytest.mark.parametrize("text", ["", "no number", None])
def test_a_counter_that_does_not_tell_means_none_at_all(machine: Path, text: str | None) -> None:
    file = machine / "intel-rapl:1" / "energy_uj"
    file.unlink()
    if text is not None:
        file.write_text(text)
    assert EnergyCounters.find(machine) is None


def test_a_machine_without_counters_tells_nothing(tmp_path: Path) -> None:
    assert EnergyCounters.find(tmp_path / "no" / "such" / "folder") is None
    assert EnergyCounters.find(tmp_path) is None
    meter = Meter(None)
    meter.start()
    meter.stop()
    assert meter.joules is None


def test_a_meter_adds_stretches_and_not_what_is_between(machine: Path) -> None:
    file = machine / "intel-rapl:1" / "energy_uj"
    meter = Meter(EnergyCounters.find(machine))
    for begin, end in ((100, 600), (5_000, 5_250)):
        file.write_text(str(begin))
        meter.start()
        file.write_text(str(end))
        meter.stop()
    assert meter.joules == pytest.approx(750e-6)


def test_a_stretch_too_short_for_the_counters_and_one_that_fails_have_no_energy(machine: Path) -> None:
    still, failing = (Meter(EnergyCounters.find(machine)) for _ in range(2))
    still.start()
    still.stop()
    assert still.joules is None
    failing.start()
    (machine / "intel-rapl:0" / "energy_uj").unlink()
    failing.stop()
    assert failing.joules is None


class Ticking:
    """Counters that go up by a thousand microjoules each time they are read."""

    def __init__(self) -> None:
        self.now = 0

    def read(self) -> tuple[int, ...]:
        self.now += 1000
        return (self.now,)

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        return 1e-6 * (after[0] - before[0])


@pytest.mark.parametrize(("mode", "min_sample", "untimed"), [("hot", 5e-4, 1), ("hot", 0.0, 0), ("cold", 0.0, 0)])
def test_a_measurement_has_the_energy_of_a_call(
    backend: CpuBackend,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    min_sample: float,
    untimed: int,
) -> None:
    monkeypatch.setattr(measure, "energy_counters", Ticking)
    monkeypatch.setattr("fettle.backends.cpu.device.last_level_bytes", lambda device: 1 << 16)
    kernel, operands = backend.load(artifact), data.operands(Workload.parse(artifact.workload), 0)
    policy = MeasurePolicy(mode=mode, warmup=0, min_sample=min_sample, samples=4)
    out = np.zeros((3, 20), np.float32)
    measured = backend.measure(kernel, operands, out, policy)
    calls = dict(measured.counters)["calls_per_sample"]
    assert measured.energy == pytest.approx(1e-3 / (calls + untimed))
    monkeypatch.setattr(measure, "energy_counters", lambda: None)
    assert backend.measure(kernel, operands, out, policy).energy is None
