"""A preset's commands and constraints as the arrays the engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple, cast

import attrs
import numpy as np

from fettle.backends.pim.preset import LEVELS, Preset, read_preset
from fettle.backends.pim.records import Records, record

NONE: int = cast(int, np.int64(-1))
"""Not a Python number: Numba would compile functions once more for it, as for every number that is written out."""

READS, WRITES = 1, 2
"""Queues of requests that a controller may reorder; 0 is none, ``OPENED`` of :mod:`requests` a third."""

COMMAND = record(
    *("whole", "activate", "precharge", "opens", "closes", "buffer", "mode", "latency", "blocking", "stride"),
    *("queue", "gaps", "gaps_end", "windows"),
)
"""A command. ``whole``: it addresses the channel. ``activate``, ``precharge``: what opens and closes the row it needs,
or NONE; a command that opens a row needs none open. ``opens``, ``closes``, ``buffer``, ``latency``, ``blocking``,
``queue``: see :class:`fettle.backends.pim.preset.Command`. ``mode``: 0 array, 1 register, NONE either. ``stride``:
cycles between two of it at the same place. ``gaps … gaps_end``: its constraints on what follows. ``windows``: bit w: it
counts in window w."""
GAP = record("level", "after", "cycles")
"""A constraint: command ``after`` comes at least ``cycles`` later at ``level`` (0 channel, 1 bank group, 2 bank)."""
WINDOW = record("count", "within")
"""At most ``count`` commands ``within`` so many cycles."""


class Rules(NamedTuple):
    """What the controllers know of a device: ``COMMAND`` by number, ``GAP``, ``WINDOW``."""

    commands: Records
    gaps: Records
    windows: Records


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
        (
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
            sum(1 << number for number, window in enumerate(preset.windows) if names[i] in window.commands),
        )
        for i, c in enumerate(commands)
    ]
    rules = Rules(
        commands=np.array(rows, COMMAND),
        gaps=np.array([(level, after, cycles) for _, level, after, cycles in ordered], GAP),
        windows=np.array([(w.count, preset.cycles(w.cycles)) for w in preset.windows], WINDOW),
    )
    return Tables(names, rules)


def _stride(longest: Mapping[tuple[int, int, int], int], command: int) -> int:
    """The longest constraint between two of the same command; at most one command is issued a cycle."""
    return max(1, *(longest.get((command, level, command), 0) for level in range(len(LEVELS))))
