"""Modes of HBM-PIM: commands to one bank, to all banks alike, or to the units; changed by writes to certain rows.

The sequences are those of PIMSimulator's kernels, in the order in which its controller issues them: up to a barrier it
takes the first request that is ready.
"""

from __future__ import annotations

from fettle.backends.pim.preset import Organisation
from fettle.backends.pim.program import Builder

REGISTER_ROW = 0x3FFF
"""The row whose columns are the registers of all units."""
PARK_ROW = 0x1000
MODE_ROW, LEAVE_ROW = 0x17FF, 0x1FFF
"""Rows that, written in the right order, change between single-bank and all-bank mode."""
_MODE_COLUMN = 0x1F

_AHEAD = 4
"""Rows that are opened before the first of them can be read: RCDRD over RRDS."""


def enter(builder: Builder, org: Organisation, microcode: int) -> None:
    """From single-bank mode to all-bank mode, and write the microcode (32-byte bursts of 8 instructions).

    A row of every bank is read, then the mode's row is written in the first two banks of two bank groups. Bank groups
    take turns. The last request before a barrier opens its row once the others are done, and rows of the next
    requests open meanwhile.
    """
    per_group = org.banks // org.bank_groups
    *parked, last_parked = (group * per_group + bank for bank in range(per_group) for group in range(org.bank_groups))
    *written, last_written = (group * per_group + bank for bank in (0, 1) for group in (0, org.bank_groups // 2))
    steps = [("ACT", bank, PARK_ROW) for bank in parked[:_AHEAD]]
    for read, bank in zip(parked, [*parked[_AHEAD:], *[None] * _AHEAD], strict=True):
        steps.append(("RD", read, PARK_ROW))
        if bank is not None:
            steps.append(("ACT", bank, PARK_ROW))
    steps.append(("ACT", last_parked, PARK_ROW))
    steps += [("ACT", bank, MODE_ROW) for bank in written]
    steps.append(("RD", last_parked, PARK_ROW))
    steps += [("WR", bank, MODE_ROW) for bank in written]
    steps += [("ACT", last_written, MODE_ROW), ("WR", last_written, MODE_ROW)]
    wanted = 0  # banks (a bit each) whose row is open and not accessed yet
    for name, bank, row in steps:
        wanted |= 1 << bank
        builder.add(name, bank=bank, row=row, column=_MODE_COLUMN if name == "WR" else 0, hold=wanted)
        if name != "ACT":
            wanted ^= 1 << bank
    builder.add("WRREG", bank=1, row=REGISTER_ROW, column=4, count=microcode)


def toggle(builder: Builder) -> None:
    """Between the all-bank mode and the one in which units compute; clears accumulators."""
    builder.add("WRREG", bank=0, row=REGISTER_ROW)


def leave(builder: Builder) -> None:
    """Back to single-bank mode."""
    for bank in (0, 1):
        builder.add("WRREG", bank=bank, row=LEAVE_ROW, column=_MODE_COLUMN)
    for bank in (0, 1):
        builder.add("RD", bank=bank, row=PARK_ROW, hold=1 << bank)
