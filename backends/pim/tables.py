"""A preset's commands and constraints as the arrays the engine reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.pim.preset import LEVELS, Preset, read_preset

NONE = -1


class Rules(NamedTuple):
    """What the controllers know of commands, by their numbers, in the order ``issue`` takes them.

    Attributes:
        starts, before, level, cycles: constraints sorted by the command they hold back: those of command c are
            ``starts[c] … starts[c+1]``; a command ``before`` at ``level`` (0 channel, 1 bank group, 2 bank).
        stride: cycles between two of the same command at the same place.
        whole: command addresses the channel.
        activate, precharge: what opens and closes the row a command needs, or NONE. A command that opens a row needs
            none open.
        opens, closes, buffer, mode, latency, blocking: see :class:`fettle.backends.pim.preset.Command`; mode 0 is
            array, 1 register, NONE either.
        windows: ``[w, 2]`` (count, cycles), and ``members[w, c]``: command c counts.
    """

    starts: NDArray[np.int32]
    before: NDArray[np.int32]
    level: NDArray[np.int32]
    cycles: NDArray[np.int64]
    stride: NDArray[np.int64]
    whole: NDArray[np.bool_]
    activate: NDArray[np.int32]
    precharge: NDArray[np.int32]
    opens: NDArray[np.bool_]
    closes: NDArray[np.bool_]
    buffer: NDArray[np.int32]
    mode: NDArray[np.int32]
    latency: NDArray[np.int64]
    blocking: NDArray[np.bool_]
    windows: NDArray[np.int64]
    members: NDArray[np.bool_]


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
    ordered = sorted(longest.items())
    held_back = np.array([key[0] for key, _ in ordered], np.int32)
    commands = preset.commands.values()
    closer = {number[c.open[0]]: number[c.open[1]] for c in commands if c.open}
    modes = {"array": 0, "register": 1, "": NONE}
    rules = Rules(
        starts=np.searchsorted(held_back, np.arange(len(names) + 1)).astype(np.int32),
        before=np.array([key[2] for key, _ in ordered], np.int32),
        level=np.array([key[1] for key, _ in ordered], np.int32),
        cycles=np.array([cycles for _, cycles in ordered], np.int64),
        stride=np.array([_stride(longest, number) for number in range(len(names))], np.int64),
        whole=np.array([c.scope == "channel" for c in commands]),
        activate=_numbers(number[c.open[0]] if c.open else NONE for c in commands),
        precharge=_numbers(number[c.open[1]] if c.open else closer.get(i, NONE) for i, c in enumerate(commands)),
        opens=np.array([c.opens for c in commands]),
        closes=np.array([c.closes for c in commands]),
        buffer=_numbers(c.buffer for c in commands),
        mode=_numbers(modes[c.mode] for c in commands),
        latency=np.array([preset.cycles(c.latency) for c in commands], np.int64),
        blocking=np.array([c.blocking for c in commands]),
        windows=np.array([[w.count, preset.cycles(w.cycles)] for w in preset.windows], np.int64).reshape(-1, 2),
        members=np.array([[name in w.commands for name in names] for w in preset.windows], bool).reshape(
            -1, len(names)
        ),
    )
    return Tables(names, rules)


def _stride(longest: Mapping[tuple[int, int, int], int], command: int) -> int:
    """The longest constraint between two of the same command; at most one command is issued a cycle."""
    return max(1, *(longest.get((command, level, command), 0) for level in range(len(LEVELS))))


def _numbers(values: Iterable[int]) -> NDArray[np.int32]:
    return np.array(list(values), np.int32)
