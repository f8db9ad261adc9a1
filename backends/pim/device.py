"""Device texts: ``pim:PRESET[,channels=N][,refresh=on][,row_buffers=1|2]``."""

from __future__ import annotations

from functools import cache

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.backends.pim.preset import Organisation, Preset, read_preset
from fettle.backends.pim.tables import Tables, tables
from fettle.graph.errors import InvalidDevice

NAME = "pim"

_MOST_CHANNELS = 64
"""A channel mask has 64 bits."""


@attrs.frozen(eq=False)
class Hardware:
    """A preset with a device's options applied.

    Attributes:
        refresh: cycles between refreshes; 0 for none.
    """

    preset: Preset
    organisation: Organisation
    tables: Tables
    refresh: int

    @classmethod
    def of(cls, device: Device) -> Hardware:
        """The hardware a device stands for."""
        return _hardware(
            device.preset,
            int(device.limit("channels", 0)),
            device.limit("refresh", "off") == "on",
            int(device.limit("row_buffers", 0)),
        )

    @property
    def is_global_buffer(self) -> bool:
        return self.organisation.kind == "global_buffer"


@cache
def _hardware(name: str, channels: int, refresh: bool, row_buffers: int) -> Hardware:
    preset = read_preset(name)
    organisation = preset.organisation
    if channels:
        organisation = attrs.evolve(organisation, channels=channels)
    if row_buffers:
        organisation = attrs.evolve(organisation, row_buffers=row_buffers)
    table = tables(name, organisation.row_buffers)
    return Hardware(preset, organisation, table, preset.timing["REFI"] if refresh else 0)


def parse_device(text: DeviceText) -> Device:
    """The DRAM device a text names.

    Raises:
        InvalidDevice: unknown preset or option, or a value out of range.
    """
    preset = read_preset(text.preset)
    options = dict(text.options)
    limits: dict[str, int | str] = {}
    if "channels" in options:
        limits["channels"] = whole_number("channels", options.pop("channels"), 1, _MOST_CHANNELS)
    refresh = options.pop("refresh", "off")
    if refresh not in ("on", "off"):
        raise InvalidDevice(f"refresh={refresh} is neither on nor off")
    if refresh == "on":
        limits["refresh"] = "on"
    if "row_buffers" in options:
        limits["row_buffers"] = whole_number(
            "row_buffers", options.pop("row_buffers"), 1, preset.organisation.row_buffers
        )
    if options:
        raise InvalidDevice(
            f"device {NAME}:{text.preset} has no option {min(options)!r}", hint="options: channels refresh row_buffers"
        )
    facts = {"clock_ns": preset.organisation.clock_ns, "kind": preset.organisation.kind}
    return Device(NAME, text.preset, tuple(facts.items()), tuple(limits.items()), label=f"simulated {text.preset}")


def whole_number(name: str, text: str, low: int, high: int) -> int:
    """The value of an option; InvalidDevice unless it is a whole number in low … high."""
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise InvalidDevice(f"{name}={text[:32]} is not a whole number between {low} and {high}")
    return int(text)
