"""What a run of a program is worth: cycles, commands, traffic, energy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fettle.backends.api import Schedule, Simulation
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.program import Program

if TYPE_CHECKING:
    from fettle.backends.pim.engine import Timing


def time_program(program: Program, hardware: Hardware, slack: int = 0, *, record: bool = False) -> Timing:
    """Time a program on a device."""
    from fettle.backends.pim.engine import run  # loads Numba

    return run(
        program,
        hardware.tables,
        hardware.organisation,
        refresh=hardware.refresh,
        first_refresh=hardware.first_refresh,
        slack=slack,
        record=record,
    )


def energy(timing: Timing, hardware: Hardware) -> float:
    """Joules of the commands issued, from the preset's constants."""
    commands = hardware.preset.commands.values()
    return 1e-12 * math.fsum(c.energy_pj * n for c, n in zip(commands, timing.counts.tolist(), strict=True))


def simulation(timing: Timing, hardware: Hardware, schedule: Schedule) -> Simulation:
    """The report of a run. ``dram_bytes`` are read or written in banks; ``bus_bytes`` cross a channel's pins."""
    width = hardware.organisation.column_bytes
    counted = list(zip(hardware.preset.commands.items(), timing.counts.tolist(), strict=True))
    return Simulation(
        cycles=timing.cycles,
        seconds=timing.cycles * hardware.organisation.clock_ns * 1e-9,
        schedule=schedule,
        commands=tuple((name, n) for (name, _), n in counted if n),
        dram_bytes=sum(command.reach * width * n for (_, command), n in counted),
        energy=energy(timing, hardware),
        counters=(("bus_bytes", sum(command.bus_bytes * n for (_, command), n in counted)),),
    )
