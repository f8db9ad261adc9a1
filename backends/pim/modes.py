"""Modes of HBM-PIM: commands to one bank, to all banks alike, or to the units; changed by writes to certain rows.

The sequences are those of PIMSimulator's kernels.
"""

from __future__ import annotations

from fettle.backends.pim.program import Builder

REGISTER_ROW = 0x3FFF
"""The row whose columns are the registers of all units."""
PARK_ROW = 0x1000
MODE_ROW, LEAVE_ROW = 0x17FF, 0x1FFF
"""Rows that, written in the right order, change between single-bank and all-bank mode."""
MODE_BANKS = (0, 1, 8, 9)


def enter(builder: Builder, banks: int, microcode: int) -> None:
    """From single-bank mode to all-bank mode, and write the microcode (32-byte bursts of 8 instructions)."""
    everything = (1 << banks) - 1
    some = sum(1 << bank for bank in MODE_BANKS)
    for bank in range(banks):
        builder.add("ACT", bank=bank, row=PARK_ROW, hold=everything)
    for bank in range(banks):
        builder.add("RD", bank=bank, row=PARK_ROW, hold=everything)
    for bank in MODE_BANKS:
        builder.add("PRE", bank=bank, hold=some)
    for bank in MODE_BANKS:
        builder.add("ACT", bank=bank, row=MODE_ROW, hold=some)
    for bank in MODE_BANKS:
        builder.add("WR", bank=bank, row=MODE_ROW, column=0x1F, hold=some)
    builder.add("WRREG", bank=1, row=REGISTER_ROW, column=4, count=microcode)


def toggle(builder: Builder) -> None:
    """Between the all-bank mode and the one in which units compute; clears accumulators."""
    builder.add("WRREG", bank=0, row=REGISTER_ROW)


def leave(builder: Builder) -> None:
    """Back to single-bank mode."""
    for bank in (0, 1):
        builder.add("WRREG", bank=bank, row=LEAVE_ROW, column=0x1F, hold=3)
    for bank in (0, 1):
        builder.add("RD", bank=bank, row=PARK_ROW, hold=3)
