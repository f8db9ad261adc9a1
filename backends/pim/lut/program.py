"""What a product makes the SRAM device do, and what that takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs
import numpy as np

from fettle.backends.api import Schedule, Simulation
from fettle.backends.pim.lut.model import ADD, FETCH, Sram, Widths, add
from fettle.backends.pim.mapping import HOST_ELEMENTS_PER_NS

Steps = Mapping[str, int]
"""How often each step of :attr:`Widths.cycles` is done; one at a time."""

LOADED, STORED = ("weights", "x"), "results"
"""What crosses the memory bus: two operands, and what is stored."""

FEED, HOST = "FEED", "HOST"
"""Commands that no bitline takes part in: activations go to all arrays; the host fetches and converts sums."""


@attrs.frozen
class Program:
    """One product.

    Attributes:
        arrays: how many of the device's are used.
        batch: rows of x whose sums a bitline holds at once.
        moved: bytes of :data:`LOADED` and :data:`STORED`.
        feed: activations that go to all arrays.
        host: sums that the host fetches and converts.
        slices: steps of bitlines that work side by side on slices of K: as many bitlines for each.
        merge: steps of all bitlines when every slice is done.
    """

    widths: Widths
    arrays: int
    batch: int
    moved: Mapping[str, int]
    feed: int
    host: int
    slices: tuple[Steps, ...]
    merge: Steps


def simulate(program: Program, sram: Sram, schedule: Schedule) -> Simulation:
    """Cycles, commands, traffic and energy. The memory bus works beside all else; the slower of the two counts."""
    widths, picojoules = program.widths, sram.energy_pj
    slices, merge = [_time(steps, widths) for steps in program.slices], _time(program.merge, widths)
    feed = program.feed * widths.activation / 8 / sram.broadcast_bytes
    host = program.host * (widths.accumulator / 8 / sram.broadcast_bytes + 1 / HOST_ELEMENTS_PER_NS / sram.clock_ns)
    besides = merge + feed + host
    compute = max(slices) + besides
    never_reused = max(_time(_without_reuse(steps, widths), widths) for steps in program.slices) + besides
    traffic = sum(program.moved.values())
    loading = traffic / sram.dram_bytes_per_ns / sram.clock_ns
    cycles = int(np.ceil(max(compute, loading)))
    busy = sum(slices) / len(slices) + merge
    energy = program.arrays * (busy * picojoules["compute_cycle"] + feed * picojoules["access_cycle"])
    issued = _issued(program)
    return Simulation(
        cycles=cycles,
        seconds=cycles * sram.clock_ns * 1e-9,
        schedule=schedule,
        commands=tuple(issued.items()),
        dram_bytes=traffic,
        energy=(energy + traffic * picojoules["dram_byte"]) * 1e-12,
        counters=(
            ("compute_cycles", int(np.ceil(compute))),
            ("load_cycles", int(np.ceil(loading))),
            ("reused", issued[ADD] - issued[FETCH]),
            ("reuse_saving", round(1.0 - compute / never_reused, 4)),
        ),
    )


def _issued(program: Program) -> Counter[str]:
    """How many of each command, all slices together; additions at all bits are one command."""
    issued: Counter[str] = Counter()
    for steps in (*program.slices, program.merge):
        for name, n in steps.items():
            issued[name.split()[0]] += n
    issued[HOST] += program.host
    return +issued  # what is never done is left out


def _time(steps: Steps, widths: Widths) -> int:
    return sum(widths.cycles[name] * n for name, n in steps.items())


def _without_reuse(steps: Steps, widths: Widths) -> Steps:
    """If every entry that is added were fetched for it."""
    return {**steps, FETCH: sum(steps.get(add(plane), 0) for plane in range(widths.activation))}
