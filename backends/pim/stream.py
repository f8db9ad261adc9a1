"""Sequential traffic of the host: a stream over all banks that hides opening rows.

Where controllers reorder requests by columns first, the stream is one address after the other, all banks in turns, and
the controller opens rows ahead. Elsewhere the host does: half of the banks are read (or written) while the rows of the
other half change. Within a half, successive columns are in different bank groups, so that they follow each other at
the short column interval.
"""

from __future__ import annotations

import numpy as np

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.program import Builder, Indices
from fettle.backends.rounding import ceil_div


def stream(builder: Builder, hardware: Hardware, command: str, columns: int, first: int = 0) -> int:
    """Append a stream of ``columns`` columns of every channel: ``RD`` or ``WR``.

    Args:
        first: columns of the channel, over all its banks, before the first that may be used.

    Returns:
        Columns up to the end of the stream: where another may begin.
    """
    org = hardware.organisation
    if org.reorders == "columns_first":
        at = np.arange(first, first + columns)
        per_group = org.banks // org.bank_groups
        bank = at // per_group % org.bank_groups * per_group + at % per_group
        rows, column = np.divmod(at // org.banks, org.columns)
        builder.extend((command,), np.zeros(columns, np.int64), bank=bank, row=rows, column=column)
        return first + columns
    row = org.banks * org.columns  # of all banks
    return row * _opening_ahead(builder, hardware, command, columns, ceil_div(first, row))


def _opening_ahead(builder: Builder, hardware: Hardware, command: str, columns: int, first_row: int) -> int:
    """A stream whose host opens and closes the rows; returns the first row after those it uses."""
    org, timing = hardware.organisation, hardware.preset.timing
    half = org.banks // 2
    per_group = org.banks // org.bank_groups
    slots = half * org.columns
    step = ceil_div(timing["RP"], timing["CCDS"]) + 1
    names = (command, "PRE", "ACT")
    by_group = np.arange(org.banks).reshape(org.bank_groups, 2, per_group // 2)
    halves = np.stack([by_group[:, side].T.reshape(-1) for side in (0, 1)])
    phases = ceil_div(columns, slots)
    phase, at = np.divmod(np.arange(columns), slots)
    span = 4 * (slots + 8 + step * (half + 1))  # of the keys of a phase
    # (which of names, bank, row, column, key): commands are sent in the order of their keys.
    blocks: list[tuple[Indices, ...]] = [
        (0, halves[phase % 2, at % half], first_row + phase // 2, at // half, phase * span + 4 * at)
    ]
    # the first rows open before the first columns
    first = halves[0, : min(half, columns)]
    if first_row > 0:
        blocks.append((1, first, -1, 0, np.arange(len(first)) - 2 * half))
    blocks.append((2, first, first_row, 0, np.arange(len(first)) - half))
    # the other half turns to its next row meanwhile; at first it has no row open
    phase, slot = (grid.reshape(-1) for grid in np.indices((phases - 1, half)))
    other, slot = halves[1 - phase % 2, slot], 8 + step * slot
    closing = phase >= (0 if first_row > 0 else 1)
    blocks.append((1, other[closing], -1, 0, phase[closing] * span + 4 * slot[closing] + 1))
    blocks.append((2, other, first_row + (phase + 1) // 2, 0, phase * span + 4 * (slot + step) + 2))
    table = np.concatenate([np.stack(np.broadcast_arrays(*block)) for block in blocks], axis=1)
    which, bank, row, column = table[:4, np.argsort(table[4], kind="stable")]
    # The host says which banks it wants, all of them, so that nothing is closed or reordered behind its back.
    every = -1 if org.reorders == "" else (1 << org.banks) - 1
    builder.extend(names, which, bank=bank, row=row, column=column, hold=every)
    return first_row + ceil_div(phases, 2)
