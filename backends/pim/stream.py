"""Sequential traffic of the host: a stream over all banks that hides opening rows.

Half of the banks are read (or written) while the rows of the other half change. Within a half, successive columns are
in different bank groups, so that they follow each other at the short column interval.
"""

from __future__ import annotations

import numpy as np

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.mapping import ceil_div
from fettle.backends.pim.program import Builder


def stream(builder: Builder, hardware: Hardware, command: str, columns: int, first_row: int = 0) -> int:
    """Append a stream of ``columns`` columns of every channel: ``RD`` or ``WR``.

    Returns:
        The first row after those it uses.
    """
    org, timing = hardware.organisation, hardware.preset.timing
    half = org.banks // 2
    per_group = org.banks // org.bank_groups
    slots = half * org.columns
    step = ceil_div(timing["RP"], timing["CCDS"]) + 1
    names = (command, "PRE", "ACT")
    halves = [
        np.array(
            [g * per_group + side * (per_group // 2) + i for i in range(per_group // 2) for g in range(org.bank_groups)]
        )
        for side in (0, 1)
    ]
    phases = ceil_div(columns, slots)
    for phase in range(phases):
        banks, row = halves[phase % 2], first_row + phase // 2
        used = min(slots, columns - phase * slots)
        at = np.arange(used)
        which, bank, rows, column = [np.zeros(used, int)], [banks[at % half]], [np.full(used, row)], [at // half]
        keys = [4 * at]
        if phase + 1 < phases:  # the other half turns to its next row meanwhile
            other = halves[1 - phase % 2]
            opened = first_row + (phase + 1) // 2
            slot = 8 + step * np.arange(half)
            if phase > 0 or first_row > 0:
                which, bank = [*which, np.ones(half, int)], [*bank, other]
                rows, column, keys = [*rows, np.full(half, -1)], [*column, np.zeros(half, int)], [*keys, 4 * slot + 1]
            which, bank = [*which, np.full(half, 2)], [*bank, other]
            rows, column = [*rows, np.full(half, opened)], [*column, np.zeros(half, int)]
            keys = [*keys, 4 * (slot + step) + 2]
        order = np.argsort(np.concatenate(keys), kind="stable")
        fields = [np.concatenate(f)[order] for f in (which, bank, rows, column)]
        builder.extend(names, *fields)
    return first_row + ceil_div(phases, 2)
