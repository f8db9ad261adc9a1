"""A preset's commands and constraints as the arrays the engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.preset import LEVELS, Preset, read_preset

NONE = -1

WHOLE, ACTIVATE, PRECHARGE, OPENS, CLOSES, BUFFER, MODE, LATENCY, BLOCKING, STRIDE, QUEUE, GAPS, GAPS_END = range(13)
"""What ``Rules.commands`` has of each command."""
LEVEL, AFTER, CYCLES = range(3)
"""What ``Rules.gaps`` has of each constraint."""
COUNT, WITHIN, MEMBERS = range(3)
"""What ``Rules.windows`` has of each window; whether command c counts is in column ``MEMBERS + c``."""

READS, WRITES = 1, 2
"""Queues of requests that a controller may reorder; 0 is none, ``OPENED`` of :mod:`state` a third."""


class Rules(NamedTuple):
    """What the controllers know of a device, whole numbers in arrays: few types are quick to compile.

    Attributes:
        commands: ``[commands, 13]``, by number. ``WHOLE``: it addresses the channel. ``ACTIVATE``, ``PRECHARGE``: what
            opens and closes the row it needs, or NONE; a command that opens a row needs none open. ``OPENS``,
            ``CLOSES``, ``BUFFER``, ``LATENCY``, ``BLOCKING``, ``QUEUE``: see
            :class:`fettle.backends.pim.preset.Command`. ``MODE``: 0 array, 1 register, NONE either. ``STRIDE``: cycles
            between two of it at the same place. ``GAPS … GAPS_END``: its constraints on what follows.
        gaps: ``[constraints, 3]``: command ``AFTER`` comes at least ``CYCLES`` later at ``LEVEL`` (0 channel, 1 bank
            group, 2 bank).
        windows: ``[windows, 2 + commands]``: at most ``COUNT`` of the members ``WITHIN`` so many cycles.
    """

    commands: NDArray[np.int64]
    gaps: NDArray[np.int64]
    windows: NDArray[np.int64]


@attrs.frozen(eq=False)
class Tables:
    """A preset compiled: commands are numbered as in ``names``."""

    names: tuple[str, ...]
    rules: Rules

    def number(self, name: str) -> int:
        """A command's number, NONE if the device has no such command."""
        return self.names.index(name) if name in self.names else NONE


@cache
def tables(name: str, row_buffers: int | None = None) -> Tables:
    """Tables of a preset of that name, with so many row buffers a bank instead of its own number."""
    return compiled(read_preset(name), row_buffers)


def compiled(preset: Preset, row_buffers: int | None = None) -> Tables:
    """Tables of a preset, with so many row buffers a bank instead of its own number."""
    if row_buffers in (None, preset.organisation.row_buffers):
        return _compile(preset)
    shared = (*preset.constraints, *preset.shared_row_buffer)
    commands = {name: attrs.evolve(command, buffer=0) for name, command in preset.commands.items()}
    return _compile(attrs.evolve(preset, commands=commands, constraints=shared))


def _compile(preset: Preset) -> Tables:
    names = tuple(preset.commands)
    number = {name: i for i, name in enumerate(names)}
    longest: dict[tuple[int, int, int], int] = {}
    for level, first, second, formula in preset.constraints:
        for before in preset.expand(first):
            for after in preset.expand(second):
                key = (number[after], LEVELS.index(level), number[before])
                longest[key] = max(longest.get(key, 0), preset.cycles(formula))
    ordered = sorted((before, level, after, cycles) for (after, level, before), cycles in longest.items())
    befores = np.array([before for before, _, _, _ in ordered])
    commands = preset.commands.values()
    closer = {number[c.open[0]]: number[c.open[1]] for c in commands if c.open}
    modes = {"array": 0, "register": 1, "": NONE}
    queues = {"": 0, "reads": READS, "writes": WRITES}
    rows = [
        [
            c.scope == "channel",
            number[c.open[0]] if c.open else NONE,
            number[c.open[1]] if c.open else closer.get(i, NONE),
            c.opens,
            c.closes,
            c.buffer,
            modes[c.mode],
            preset.cycles(c.latency),
            c.blocking,
            _stride(longest, i),
            queues[c.queue],
            np.searchsorted(befores, i),
            np.searchsorted(befores, i, side="right"),
        ]
        for i, c in enumerate(commands)
    ]
    windows = [[w.count, preset.cycles(w.cycles), *(name in w.commands for name in names)] for w in preset.windows]
    rules = Rules(
        commands=np.array(rows, np.int64),
        gaps=np.array([[level, after, cycles] for _, level, after, cycles in ordered], np.int64),
        windows=np.array(windows, np.int64).reshape(len(windows), MEMBERS + len(names)),
    )
    return Tables(names, rules)


def _stride(longest: Mapping[tuple[int, int, int], int], command: int) -> int:
    """The longest constraint between two of the same command; at most one command is issued a cycle."""
    return max(1, *(longest.get((command, level, command), 0) for level in range(len(LEVELS))))
