"""Devices of a preset's kind with other numbers of banks, lanes and buffer bytes, and the area they take.

A bank stays what it is: so many rows of so many bytes. Its units take wider or narrower columns, each in one interval
of the array; the pins stay too, so that a column twice as wide takes two bursts. More banks come in bank groups of the
preset's size, a unit to each, and their results, 16 bits a bank, leave a channel in more bursts. Timings of the array
stay: that as many banks may be opened at once as there are is an assumption.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from fettle.backends.pim.preset import Command, Organisation, Preset

MIN_BUFFER_COLUMNS = 8
"""Of the shortest chunks of inputs that mappings know."""


@attrs.frozen
class Area:
    """Constants of the area proxy, with their source. Pins, their drivers and the command logic are not counted.

    Attributes:
        um2_per_lane: a multiply-accumulate lane of a unit.
        um2_per_buffer_byte: of a channel's buffer.
        um2_per_bank_byte: of a bank's array.
    """

    source: str
    um2_per_lane: float
    um2_per_buffer_byte: float
    um2_per_bank_byte: float


@attrs.frozen
class Scaling:
    """What changes with the number of banks and the width of a column.

    The energy of every command follows the width of a column, but for those of ``per_row`` and ``per_result``.

    Attributes:
        source: of the rules.
        per_bank: commands that all banks take part in: reach and energy follow the banks, but for what the bus takes.
        per_result: commands that move 16 bits of every bank: bytes on the bus and energy follow the banks.
        per_row: commands of whole rows: their energy does not know of columns.
        bus_pj_per_byte: of a byte between the pins and the banks.
    """

    source: str
    per_bank: tuple[str, ...]
    per_result: tuple[str, ...]
    per_row: tuple[str, ...]
    bus_pj_per_byte: float
    area: Area


def scaled(preset: Preset, rule: Scaling, *, banks: int, lanes: int, buffer: int) -> Preset:
    """The preset with so many banks in a channel, lanes in a unit and bytes in a buffer.

    Args:
        banks: a multiple of the banks of a bank group.
        lanes: a power of two.
        buffer: a multiple of the bytes of a column.
    """
    org = preset.organisation
    more, wider = Fraction(banks, org.banks), Fraction(lanes, org.lanes)
    column_bytes = 2 * lanes
    timing = {
        **preset.timing,
        "BL": ceil(preset.timing["BL"] * wider),
        "BLREG": ceil(preset.timing["BLREG"] * more),
    }
    organisation = attrs.evolve(
        org,
        banks=banks,
        bank_groups=int(org.bank_groups * more),
        units=int(org.units * more),
        column_bytes=column_bytes,
        columns=org.columns * org.column_bytes // column_bytes,
        buffer_columns=buffer // column_bytes,
    )
    commands = {name: _command(name, command, rule, more, wider) for name, command in preset.commands.items()}
    return attrs.evolve(preset, organisation=organisation, timing=timing, commands=commands)


def _command(name: str, command: Command, rule: Scaling, more: Fraction, wider: Fraction) -> Command:
    """A command among ``more`` times the banks with columns ``wider`` times as wide."""
    if name in rule.per_result:
        return attrs.evolve(command, bus_bytes=int(command.bus_bytes * more), energy_pj=float(command.energy_pj * more))
    energy, reach = command.energy_pj, command.reach
    if name in rule.per_bank:
        bus = command.bus_bytes * rule.bus_pj_per_byte
        energy, reach = bus + (energy - bus) * more, int(reach * more)
    if name not in rule.per_row:
        energy *= wider
    return attrs.evolve(command, reach=reach, bus_bytes=int(command.bus_bytes * wider), energy_pj=float(energy))


def square_millimetres(organisation: Organisation, area: Area) -> float:
    """Area of all banks, units and buffers of a device."""
    org = organisation
    bank = org.rows * org.columns * org.column_bytes * area.um2_per_bank_byte
    buffer = org.buffer_columns * org.column_bytes * area.um2_per_buffer_byte
    return org.channels * (org.banks * bank + org.units * org.lanes * area.um2_per_lane + buffer) * 1e-6
