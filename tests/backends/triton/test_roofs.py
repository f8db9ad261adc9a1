"""Roofs of a GPU, by a driver whose time, clock and speed are written in advance, and the machine code behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import pytest

from fettle.backends.api import DeviceText, Profile
from fettle.backends.triton import TritonBackend
from fettle.backends.triton.backend import target_of
from fettle.backends.triton.compiler import Compiled
from fettle.backends.triton.gpu.driver import Address, LaunchConfig
from fettle.backends.triton.gpu.roofs import Compile, measure_roofs, workload_of
from fettle.backends.triton.plan import Launch
from fettle.backends.triton.sass import disassemble
from fettle.backends.triton.targets import Target
from fettle.graph.errors import BuildFailure, InvalidArgument
from fettle.graph.workload import Workload
from tests.backends.triton.programs import kernel
from tests.backends.triton.test_gpu import FACTS, FakeDriver

COLD, HOT = 1.0e9, 1.5e9
OPERATIONS = {"half": 1000.0, "fp8": 2000.0, "int8": 1500.0}
"""A cycle of the whole GPU."""
COPIED = 4e12


class LoadedDriver(FakeDriver):
    """Its clock is low until it has worked for 50 ms. Compiled code that is text names the unit it keeps busy."""

    def __init__(self, capability: int = 90, *, stuck: bool = False, broken: str = "") -> None:
        super().__init__()
        self.facts = attrs.evolve(FACTS, capability=capability)
        self.seconds, self.cycles = 0.0, 7
        self.codes: dict[str, list[bytes]] = {}
        self._stuck, self._broken = stuck, broken
        self._flops = {unit: workload_of(unit, self.target).flops for unit in ("f16", "f8", "i8")}

    @property
    def target(self) -> Target:
        return target_of(self.backend.device(DeviceText.parse("triton:0")))

    @property
    def backend(self) -> TritonBackend:
        return TritonBackend(lambda index: self)

    def profile(self, compiler: Compile) -> Profile:
        return measure_roofs(self, "key", self.target, compiler)

    def load(self, code: bytes, name: str, shared: int) -> Any:
        self.codes.setdefault(name, []).append(code)
        return code.decode() if code.isascii() else name

    def allocate(self, size: int) -> Address:
        address, self._next = self._next, self._next + (1 << 32)
        self.memory[address] = np.zeros(size, np.uint8)  # a gigabyte that nobody touches
        return Address(address)

    def upload(self, address: Address, array: np.ndarray) -> None:
        self.memory[address.value][: array.nbytes] = array.view(np.uint8).reshape(-1)

    def copy(self, target: Address, source: Address, size: int) -> None:
        self._pass(2 * size / COPIED)

    def launch(self, function: Any, config: LaunchConfig, arguments: Sequence[Address | int]) -> None:
        self.launches.append((function, config, tuple(arguments)))
        if function == self._broken:
            raise RuntimeError("cuLaunchKernelEx: CUDA_ERROR_LAUNCH_FAILED")
        out = arguments[0]
        assert isinstance(out, Address)
        if function in ("clock", "read"):
            rows = [(number, self.cycles + number, int(1e9 * self.seconds)) for number in range(config.grid[0])]
            self.memory[out.value].view(np.int64)[:] = np.array(rows).reshape(-1)
        else:
            unit = function if function in OPERATIONS else "half"
            self._pass(self._flops["f16"] / OPERATIONS[unit] / self.clock)

    @property
    def clock(self) -> float:
        return HOT if self.seconds > 0.05 else COLD

    def elapsed(self, enqueue: Callable[[], None]) -> float:
        before = self.seconds
        enqueue()
        return self.seconds - before

    def _pass(self, seconds: float) -> None:
        if not self._stuck:
            self.cycles += round(seconds * self.clock)
        self.seconds += seconds


def stand_in(launch: Launch, target: Target) -> Compiled:
    """Code that names what it keeps busy."""
    made = kernel(template=launch.template, warps=launch.warps).compiled
    assert made is not None
    return attrs.evolve(made, code=(launch.work.unit or "clock").encode())


def values(profile: Profile) -> dict[str, float]:
    return {roof.name: roof.value for roof in profile.roofs}


def test_peaks_are_those_of_a_warm_clock_which_is_measured_too() -> None:
    driver = LoadedDriver()
    profile = driver.profile(stand_in)
    assert values(profile) == pytest.approx(
        {
            "copy:dram": COPIED,
            **{f"peak:{unit}": HOT * OPERATIONS[of] for unit, of in (("f16", "half"), ("f8", "fp8"), ("i8", "int8"))},
            **{f"clock:{unit}": HOT for unit in ("f16", "f8", "i8")},
        },
        rel=1e-3,
    )
    assert profile.missing == ()
    assert not driver.memory, "nothing stays allocated"
    assert driver.seconds < 2.0


def test_every_multiprocessor_has_equally_many_tiles() -> None:
    driver = LoadedDriver()
    driver.profile(stand_in)
    grids = {(function, config.grid) for function, config, _ in driver.launches}
    assert {function for function, _ in grids} == {"half", "fp8", "int8", "clock"}
    assert all(x % FACTS.multiprocessors == 0 and (y, z) == (1, 1) for _, (x, y, z) in grids)


def test_a_part_without_fp8_has_neither_its_peak_nor_a_figure_in_its_place() -> None:
    profile = LoadedDriver(80).profile(stand_in)
    assert values(profile).keys() == {"copy:dram", "peak:f16", "clock:f16", "peak:i8", "clock:i8"}
    why = "A GPU does not multiply OCP's fp8"
    assert profile.missing == (("peak:f8", why), ("clock:f8", why))


def without_int8(launch: Launch, target: Target) -> Compiled:
    if launch.work.unit == "int8":
        raise BuildFailure("no such instruction")
    return stand_in(launch, target)


def without_triton(launch: Launch, target: Target) -> Compiled:
    raise ModuleNotFoundError("No module named 'triton'")


@pytest.mark.parametrize(
    ("driver", "compiler", "lost", "why"),
    [
        (LoadedDriver(), without_int8, {"i8"}, "no such instruction"),
        (LoadedDriver(broken="fp8"), stand_in, {"f8"}, "LAUNCH_FAILED"),
        (LoadedDriver(), without_triton, {"f16", "f8", "i8"}, "triton"),
    ],
)
def test_what_cannot_be_measured_is_left_to_the_data_sheet_by_name(
    driver: LoadedDriver, compiler: Compile, lost: set[str], why: str
) -> None:
    profile = driver.profile(compiler)
    for unit in ("f16", "f8", "i8"):
        assert (f"peak:{unit}" in values(profile)) is (unit not in lost)
        assert (f"peak:{unit}@sheet" in values(profile)) is (unit in lost)
    assert {name for name, _ in profile.missing} == {f"{kind}:{unit}" for kind in ("peak", "clock") for unit in lost}
    assert all(why in reason for _, reason in profile.missing)
    assert not driver.memory, "nothing stays allocated"


def test_a_clock_that_stands_still_is_no_clock() -> None:
    profile = LoadedDriver(stuck=True).profile(stand_in)
    assert values(profile).keys() == {"copy:dram", "peak:f16", "peak:f8", "peak:i8"}
    assert {name for name, _ in profile.missing} == {"clock:f16", "clock:f8", "clock:i8"}


def test_roofs_are_those_of_the_gpu_that_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = (FakeDriver(), FakeDriver())
    asked: list[FakeDriver] = []

    def measured(driver: FakeDriver, key: str, target: Target) -> Profile:
        asked.append(driver)
        return Profile(key, ())

    monkeypatch.setattr("fettle.backends.triton.backend.measure_roofs", measured)
    backend = TritonBackend(lambda index: drivers[index])
    backend.profile(backend.device(DeviceText.parse("triton:1")))
    assert asked[0] is drivers[1]


@pytest.mark.parametrize(
    ("compute", "compiler", "roof"),
    [
        ("bf16", stand_in, "peak:f16"),
        ("i8", stand_in, "peak:i8"),
        ("f8e4m3", stand_in, "peak:f8"),
        ("i8", without_int8, "peak:i8@sheet"),
    ],
)
def test_bounds_are_by_measured_peaks(compute: str, compiler: Compile, roof: str) -> None:
    driver = LoadedDriver()
    backend, device = driver.backend, driver.backend.device(DeviceText.parse("triton:0"))
    profile = measure_roofs(driver, device.key, driver.target, compiler)
    kind = "f8e4m3" if compute == "f8e4m3" else "u8"
    product = Workload.parse(f"matmul m=8192 n=8192 k=8192 act=bf16 weight={kind}:row compute={compute}")
    bound = backend.bound(product, device, profile)
    assert bound.roof == roof
    assert bound.seconds == pytest.approx(2 * 8192**3 / values(profile)[roof])
    with pytest.raises(InvalidArgument, match="another device"):
        backend.bound(product, device, attrs.evolve(profile, device_key="other"))


@pytest.mark.parametrize(("capability", "instructions"), [(80, ("HMMA", "IMMA")), (90, ("HGMMA", "QGMMA", "IGMMA"))])
def test_the_machine_code_multiplies_by_the_unit_and_reads_the_clock(
    capability: int, instructions: tuple[str, ...]
) -> None:
    driver = LoadedDriver(capability)
    profile = driver.backend.profile(driver.backend.device(DeviceText.parse("triton:0")))
    for code, instruction in zip(driver.codes["matmul"], instructions, strict=True):
        assert f" {instruction}." in disassemble(code)
    clock = disassemble(driver.codes["read"][0])
    assert all(register in clock for register in ("SR_CLOCKLO", "SR_GLOBALTIMERLO", "SR_VIRTUALSMID"))
    assert values(profile)["clock:f16"] == pytest.approx(HOT, rel=1e-3)
