"""Command programs: what a mapping makes of a workload, before it has times."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.records import record

HOST = "HOST"
"""Cycles the host spends on its own, ``count`` of them: writing one of its registers, computing."""

SYNC = "SYNC"
"""The host waits until every channel has finished what it was sent."""

DONE = "DONE"
"""As SYNC, but an access whose row has been opened and that has not been issued is not waited for: what the AiM
simulator's SYNC and EOC do."""

INSTRUCTION = record("operation", "bank", "row", "column", "count", "hold")
"""What the controllers have of each instruction, see :class:`Program`."""

UNTOLD = -1
"""``hold`` of an instruction that does not say which banks are wanted until the next barrier: its own."""

Indices = int | NDArray[np.integer]


@attrs.frozen(eq=False)
class Program:
    """Instructions in the order the host sends them, one row each.

    Attributes:
        names: commands the program uses; ``operations`` are indices into it.
        operations: ``[n]`` which command.
        banks, rows, columns: ``[n]`` where; bank is -1 for commands of a whole channel.
        counts: ``[n]`` how many consecutive columns.
        holds: ``[n]`` bit b set: bank b is wanted until the next barrier (see ``Organisation.eager_precharge``). -1
            where that is not told: its own bank, and the controller may reorder the request (see
            ``Organisation.reorders``).
        channels: ``[n]`` bit c set: channel c takes part.
    """

    names: tuple[str, ...]
    operations: NDArray[np.int32]
    banks: NDArray[np.int32]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    counts: NDArray[np.int32]
    holds: NDArray[np.int64]
    channels: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.operations)


class Builder:
    """Collects instructions for channels 0 … channels-1."""

    def __init__(self, channels: int) -> None:
        self._names: dict[str, int] = {}
        self._scalars: list[tuple[int, ...]] = []
        self._blocks: list[NDArray[np.int64]] = []
        self._everyone = _signed((1 << channels) - 1)

    def add(
        self,
        name: str,
        *,
        bank: int = -1,
        row: int = -1,
        column: int = 0,
        count: int = 1,
        hold: int = -1,
        channels: int | None = None,
    ) -> None:
        """Append one instruction."""
        operation = self._names.setdefault(name, len(self._names))
        mask = self._everyone if channels is None else _signed(channels)
        self._scalars.append((operation, bank, row, column, count, _signed(hold), mask))

    def extend(
        self,
        names: tuple[str, ...],
        which: NDArray[np.integer],
        *,
        bank: Indices = -1,
        row: Indices = -1,
        column: Indices = 0,
        count: Indices = 1,
        hold: int = -1,
        channels: Indices | None = None,
    ) -> None:
        """Append ``len(which)`` instructions; ``which`` are indices into ``names``."""
        self._flush()
        numbers = np.array([self._names.setdefault(name, len(self._names)) for name in names])
        mask = self._everyone if channels is None else channels
        fields = (numbers[which], bank, row, column, count, hold, mask)
        block = np.empty((len(which), len(fields)), np.int64)
        for part, field in zip(block.T, fields, strict=True):
            part[:] = field
        self._blocks.append(block)

    def __len__(self) -> int:
        """Instructions so far."""
        return sum(len(block) for block in self._blocks) + len(self._scalars)

    def build(self) -> Program:
        """The program so far."""
        self._flush()
        table = np.concatenate(self._blocks) if self._blocks else np.empty((0, 7), np.int64)
        operations, banks, rows, columns, counts = np.ascontiguousarray(table[:, :5].T, np.int32)
        masks = table[:, 6].astype(np.uint64)
        return Program(tuple(self._names), operations, banks, rows, columns, counts, table[:, 5].copy(), masks)

    def _flush(self) -> None:
        if self._scalars:
            self._blocks.append(np.array(self._scalars, np.int64))
            self._scalars = []


def _signed(mask: int) -> int:
    """A 64-bit mask as the signed number with the same bits."""
    return mask - (1 << 64) if mask >= 1 << 63 else mask
