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
        first_refresh: when the first is due.
    """

    preset: Preset
    organisation: Organisation
    tables: Tables
    refresh: int
    first_refresh: int

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
    timing = preset.timing
    interval = timing["REFI"] if refresh else 0
    return Hardware(preset, organisation, table, interval, timing.get("REFFIRST", interval))


def parse_device(text: DeviceText) -> Device:
    """The DRAM device a text names.

    Raises:
        InvalidDevice: unknown preset or option, or a value out of range.
    """
    preset = read_preset(text.preset)
    options = text.only("channels", "refresh", "row_buffers")
    most = {"channels": _MOST_CHANNELS, "row_buffers": preset.organisation.row_buffers}
    limits: dict[str, int | str] = {
        name: text.whole_number(name, 1, most[name], default=1) for name in most if name in options
    }
    refresh = options.get("refresh", "off")
    if refresh not in ("on", "off"):
        raise InvalidDevice(f"refresh={refresh} is neither on nor off")
    if refresh == "on":
        limits["refresh"] = "on"
    facts = {"clock_ns": preset.organisation.clock_ns, "kind": preset.organisation.kind}
    return Device(NAME, text.preset, tuple(facts.items()), tuple(limits.items()), label=f"simulated {text.preset}")
