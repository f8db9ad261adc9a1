"""Device texts: ``pim:PRESET[,channels=N][,refresh=on][,row_buffers=1|2]``, and where a preset says how it scales
``[,banks=N][,lanes=N][,buffer=BYTES]``."""

from __future__ import annotations

from functools import cache

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.backends.pim.preset import Organisation, Preset, read_preset
from fettle.backends.pim.scaling import MIN_BUFFER_COLUMNS, scaled
from fettle.backends.pim.tables import Tables, compiled
from fettle.graph.errors import InvalidDevice

NAME = "pim"

_MOST_CHANNELS = 64
"""A channel mask has 64 bits."""

_SIZES = {"banks": (4, 32), "lanes": (8, 64), "buffer": (256, 1 << 16)}
"""Options of presets that scale, with their ranges: powers of two."""


@attrs.frozen(eq=False)
class Hardware:
    """A preset with a device's options applied.

    Attributes:
        refresh: cycles between refreshes; 0 for none.
        first_refresh: when the first is due.
        bus_interval: cycles between two columns of different bank groups on a channel's pins.
    """

    preset: Preset
    organisation: Organisation
    tables: Tables
    refresh: int
    first_refresh: int
    bus_interval: int

    @classmethod
    def of(cls, device: Device) -> Hardware:
        """The hardware a device stands for."""
        return _hardware(
            device.preset,
            int(device.limit("channels", 0)),
            device.limit("refresh", "off") == "on",
            int(device.limit("row_buffers", 0)),
            tuple(int(device.limit(name, 0)) for name in _SIZES),
        )

    @property
    def is_global_buffer(self) -> bool:
        return self.organisation.kind == "global_buffer"


@cache
def _hardware(name: str, channels: int, refresh: bool, row_buffers: int, sizes: tuple[int, ...]) -> Hardware:
    preset = read_preset(name)
    if preset.scaling is not None and any(sizes):
        banks, lanes, buffer = (given or own for given, own in zip(sizes, _own_sizes(preset), strict=True))
        preset = scaled(preset, preset.scaling, banks=banks, lanes=lanes, buffer=buffer)
    organisation = preset.organisation
    if channels:
        organisation = attrs.evolve(organisation, channels=channels)
    if row_buffers:
        organisation = attrs.evolve(organisation, row_buffers=row_buffers)
    table = compiled(preset, organisation.row_buffers)
    timing = preset.timing
    interval = timing["REFI"] if refresh else 0
    return Hardware(preset, organisation, table, interval, timing.get("REFFIRST", interval), _bus_interval(preset))


def _bus_interval(preset: Preset) -> int:
    reads = (
        preset.cycles(cycles)
        for level, first, second, cycles in preset.constraints
        if level == "channel" and "RD" in preset.expand(first) and "RD" in preset.expand(second)
    )
    return max(reads)


def _own_sizes(preset: Preset) -> tuple[int, ...]:
    """What a preset has of :data:`_SIZES`."""
    org = preset.organisation
    return org.banks, org.lanes, org.buffer_columns * org.column_bytes


def parse_device(text: DeviceText) -> Device:
    """The DRAM device a text names.

    Raises:
        InvalidDevice: unknown preset or option, or a value out of range.
    """
    preset = read_preset(text.preset)
    options = text.only("channels", "refresh", "row_buffers", *(_SIZES if preset.scaling is not None else ()))
    most = {"channels": _MOST_CHANNELS, "row_buffers": preset.organisation.row_buffers}
    limits: dict[str, int | str] = {
        name: text.whole_number(name, 1, most[name], default=1) for name in most if name in options
    }
    refresh = options.get("refresh", "off")
    if refresh not in ("on", "off"):
        raise InvalidDevice(f"refresh={refresh} is neither on nor off")
    if refresh == "on":
        limits["refresh"] = "on"
    if preset.scaling is not None:
        limits |= _sizes(text, preset)
    facts = {"clock_ns": preset.organisation.clock_ns, "kind": preset.organisation.kind}
    return Device(NAME, text.preset, tuple(facts.items()), tuple(limits.items()), label=f"simulated {text.preset}")


def _sizes(text: DeviceText, preset: Preset) -> dict[str, int]:
    """The sizes a text gives that are not the preset's own: one device has one identity."""
    own = dict(zip(_SIZES, _own_sizes(preset), strict=True))
    sizes = {name: text.whole_number(name, *_SIZES[name], default=own[name]) for name in _SIZES}
    for name, size in sizes.items():
        if size & (size - 1):
            raise InvalidDevice(f"{name}={size} is not a power of two", hint=f"the preset has {name}={own[name]}")
    least = MIN_BUFFER_COLUMNS * 2 * sizes["lanes"]
    if sizes["buffer"] < least:
        raise InvalidDevice(
            f"buffer={sizes['buffer']} holds fewer than {MIN_BUFFER_COLUMNS} columns of {sizes['lanes']} lanes",
            hint=f"the least is buffer={least}",
        )
    return {name: size for name, size in sizes.items() if size != own[name]}
