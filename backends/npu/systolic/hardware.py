"""What a systolic device is: ``npu:systolic[,rows=R][,cols=C][,…]``; see docs/npu.md."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.graph.errors import InvalidDevice

PRESET = "systolic"
MAC, BIT_SERIAL, LUT = "mac", "bitserial", "lut"

_INTEGERS = {
    "rows": (1, 1024),
    "cols": (1, 1024),
    "sram": (4, 1 << 20),
    "bandwidth": (1, 1 << 16),
    "latency": (0, 1 << 16),
    "clock": (1, 10_000),
    "vector": (1, 1 << 16),
    "units": (1, 1 << 16),
    "link": (1, 1 << 16),
    "tier": (0, 1 << 30),
    "tier_bandwidth": (1, 1 << 16),
}
"""Options that are numbers, with their ranges."""


@attrs.frozen
class Systolic:
    """One device; every field is a key of its text.

    Attributes:
        rows, cols: processing elements of one array.
        pe: what an element is. ``mac``: one product a cycle. ``bitserial``: one bit of a weight a cycle (BitMoD).
            ``lut``: the arrays are replaced by ``units`` LUT tensor cores M2N64K4, which look up mirrored tables of
            four activations, one weight bit a cycle (LUT Tensor Core, 2408.06003).
        units: LUT tensor cores.
        sram: KiB of scratchpad, of each array of a mesh.
        bandwidth: bytes a cycle between DRAM and all scratchpads.
        latency: cycles from the start of a transfer's last byte to its arrival.
        clock: MHz.
        vector: lanes of the vector unit: elementary operations a cycle.
        mesh: arrays, ``RxC``; a mapping splits one dimension over them.
        link: bytes a cycle between neighbours of the mesh.
        tier: KiB of a memory between DRAM and scratchpads; 0 for none. Operands that fit stay there (SN40L).
        tier_bandwidth: bytes a cycle between that memory and the scratchpads.
    """

    rows: int = 128
    cols: int = 128
    pe: str = MAC
    units: int = 64
    sram: int = 1024
    bandwidth: int = 64
    latency: int = 100
    clock: int = 1000
    vector: int = 128
    mesh: str = "1x1"
    link: int = 64
    tier: int = 0
    tier_bandwidth: int = 512

    @classmethod
    def of(cls, device: Device) -> Systolic:
        """The hardware a device stands for."""
        options: dict[str, Any] = dict(device.limits)
        return cls(**options)

    @property
    def arrays(self) -> int:
        """Arrays of the mesh."""
        down, across = self.mesh.split("x")
        return int(down) * int(across)

    @property
    def hops(self) -> int:
        """Links between opposite corners of the mesh."""
        down, across = self.mesh.split("x")
        return int(down) + int(across) - 2

    @property
    def sram_bytes(self) -> int:
        return self.sram * 1024

    def seconds(self, cycles: int) -> float:
        """Cycles as time."""
        return cycles / (self.clock * 1e6)


def parse_systolic(backend: str, text: DeviceText) -> Device:
    """The device of a text.

    Raises:
        InvalidDevice: unknown option, or a value out of range.
    """
    limits: dict[str, int | str] = {}
    for name, value in text.only(*sorted({*_INTEGERS, "pe", "mesh"})).items():
        if name in _INTEGERS:
            low, high = _INTEGERS[name]
            limits[name] = text.whole_number(name, low, high, default=low)
        elif name == "pe":
            if value not in (MAC, BIT_SERIAL, LUT):
                raise InvalidDevice(f"pe={value[:32]} is none of {MAC} {BIT_SERIAL} {LUT}")
            limits[name] = value
        else:
            limits[name] = _mesh(value)
    defaults = attrs.asdict(Systolic())
    limits = {name: value for name, value in limits.items() if value != defaults[name]}  # one identity, two spellings
    hardware = Systolic(**limits)  # type: ignore[arg-type]
    label = f"simulated {hardware.pe} array {hardware.rows}x{hardware.cols}"
    return Device(backend, PRESET, (("model", "fettle-systolic-1"),), tuple(limits.items()), label=label)


def _mesh(value: str) -> str:
    parts = value.split("x")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) < 4 and 1 <= int(p) <= 64 for p in parts):
        raise InvalidDevice(f"mesh={value[:32]} is not ROWSxCOLUMNS with 1 to 64 arrays each", hint="example: mesh=2x4")
    return "x".join(str(int(p)) for p in parts)


@cache
def energy_constants() -> dict[str, Any]:
    """Picojoules per event, with their source: ``data/energy.json``."""
    text = resources.files("fettle.backends.npu").joinpath("data/energy.json").read_text(encoding="utf-8")
    constants: dict[str, Any] = json.loads(text)
    return constants
