"""Command traces of the systolic device, a command a line, as ``fettle simulate`` writes and reads them::

    BUFFERS 2
    LOAD inputs bytes=65536
    LOAD weights bytes=65536 from=tier
    COMPUTE cycles=766  # batch 0 m 0:128 n 0:128 k 0:512: loaded 2148 start 2148 end 2914 stored 4096
    VECTOR operations=16384
    STORE results bytes=65536

A tile is what is loaded, one COMPUTE, and what follows until the next tile. ``PASS bytes=`` are sums for a neighbour of
the mesh. Of a mesh the commands are those of its first array, which has most to do; ``MESH arrays=4 split=n`` says how
many work beside it and share the memories, and which of m, n, k is split over them, if one is: what all of them need is
moved once and passed on. Without it an array works alone. ``#`` begins a comment; those written say which tile it is
and when it was loaded, started, ended and stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fettle.backends.api import Simulation
from fettle.backends.host.lines import take_lines
from fettle.backends.npu.systolic import timeline
from fettle.backends.npu.systolic.demands import LOADED, TRAFFIC, Demands, Ints
from fettle.backends.npu.systolic.hardware import Systolic
from fettle.graph.errors import InvalidArgument

DRAM, TIER = "dram", "tier"
_WORK, _VECTOR, _PASSED = range(3)
_SINGLE = {"COMPUTE": ("cycles", _WORK), "VECTOR": ("operations", _VECTOR), "PASS": ("bytes", _PASSED)}
"""Commands with one number: its name, and where it goes."""
_SPLITS = "mnk"
"""Dimensions that may be split over a mesh, by their numbers."""

_MOST_TILES = 1 << 20


def write(
    demands: Demands, events: Ints, buffers: int, names: Sequence[str], arrays: int = 1, split: int | None = None
) -> tuple[str, ...]:
    """The lines of a program that runs as often as ``events [runs · tiles, 4]`` has its tiles.

    Args:
        names: of each tile of each run, for the comments.
        arrays, split: what :meth:`Demands.durations` calls ``sharers`` and ``split``.
    """
    lines = [f"BUFFERS {buffers}"]
    if arrays > 1:
        lines.append(f"MESH arrays={arrays}" + ("" if split is None else f" split={_SPLITS[split]}"))
    tiles = len(demands.work)
    for number, (loaded, start, end, stored) in enumerate(events.tolist()):
        tile = number % tiles
        lines += _moves("LOAD", demands, tile, range(LOADED))
        times = f"loaded {loaded} start {start} end {end} stored {stored}"
        lines.append(f"COMPUTE cycles={demands.work[tile]}  # {names[number]}: {times}")
        if operations := demands.vector[tile]:
            lines.append(f"VECTOR operations={operations}")
        if passed := demands.passed[tile]:
            lines.append(f"PASS bytes={passed}")
        lines += _moves("STORE", demands, tile, range(LOADED, len(TRAFFIC)))
    return tuple(lines)


def _moves(command: str, demands: Demands, tile: int, columns: Iterable[int]) -> Iterator[str]:
    for column in columns:
        if count := demands.dram[tile, column]:
            yield f"{command} {TRAFFIC[column]} bytes={count}"
        if count := demands.near[tile, column]:
            yield f"{command} {TRAFFIC[column]} bytes={count} {'from' if command == 'LOAD' else 'to'}={TIER}"


def time(lines: Iterable[str], hardware: Systolic) -> Simulation:
    """What a trace takes; commands and bytes are those of its array. No energy: they do not say what was multiplied.

    Raises:
        InvalidArgument: a malformed line, no tile, or more arrays than the device has.
    """
    reader = _Reader(hardware.arrays)
    take_lines(lines, reader.take)
    demands = reader.demands()
    durations = demands.durations(hardware, reader.sharers, reader.split)
    events = np.asarray(timeline.run(durations, 1, hardware.latency, reader.buffers == 2))
    cycles, work = int(events[:, timeline.STORED].max()), int(demands.work.sum())
    cycles += 0 if reader.split is None else hardware.hops
    moved = {f"dram_{name}": int(count) for name, count in zip(TRAFFIC, demands.dram.sum(axis=0), strict=True)}
    return Simulation(
        cycles=cycles,
        seconds=hardware.seconds(cycles),
        commands=tuple(reader.commands.items()),
        dram_bytes=int(demands.dram.sum()),
        # the first cycle counts as none, as in workloads
        counters=(
            ("compute_cycles", max(work - 1, 0)),
            ("array_busy", round(work / max(cycles, 1), 6)),
            *moved.items(),
        ),
    )


class _Reader:
    """Collects tiles, command by command."""

    def __init__(self, arrays: int) -> None:
        self.buffers = 2
        self.sharers = 1
        self.split: int | None = None
        self._arrays = arrays
        self.commands = {"load": 0, "compute": 0, "store": 0}
        self._loading = False  # a tile whose COMPUTE is still to come
        self._moved: list[list[int]] = []
        self._others: list[list[int]] = []

    def take(self, words: list[str]) -> None:
        """The next command."""
        name = words[0]
        if name == "BUFFERS":
            if words[1:] not in (["1"], ["2"]) or self._moved:
                raise InvalidArgument("BUFFERS is 1 or 2, before the first tile")
            self.buffers = int(words[1])
            return
        if name == "MESH":
            self._mesh(words[1:])
            return
        if name not in ("LOAD", "STORE", *_SINGLE):
            raise InvalidArgument(f"unknown command; known: BUFFERS MESH LOAD STORE {' '.join(_SINGLE)}")
        if name in ("LOAD", "COMPUTE"):
            self._begin(goes_on=name == "LOAD")
        elif self._loading or not self._moved:
            raise InvalidArgument("a tile is computed before anything is done with what it gave")
        if name in _SINGLE:
            field, column = _SINGLE[name]
            self._others[-1][column] += _number(words[1:], field)
        else:
            self._moved[-1][_column(name, words)] += _number(words[2:3], "bytes")
        if (counted := name.lower()) in self.commands:
            self.commands[counted] += 1

    def _mesh(self, words: Sequence[str]) -> None:
        """How many arrays work side by side, and what is split over them."""
        if self._moved or self.sharers > 1:
            raise InvalidArgument("MESH comes once, before the first tile")
        self.sharers = _number(words[:1], "arrays")
        if not 1 < self.sharers <= self._arrays:
            raise InvalidArgument(f"arrays={self.sharers} is not 2 to {self._arrays}, the arrays of the device's mesh")
        if words[1:]:
            side, _, dimension = words[1].partition("=")
            if side != "split" or dimension not in tuple(_SPLITS) or len(words) > 2:
                raise InvalidArgument("expected MESH arrays=N [split=m|n|k]")
            self.split = _SPLITS.index(dimension)

    def _begin(self, *, goes_on: bool) -> None:
        """A LOAD or the COMPUTE of a tile: its first command, or one more."""
        if not self._loading:
            if len(self._moved) == _MOST_TILES:
                raise InvalidArgument(f"more than {_MOST_TILES} tiles")
            self._moved.append([0] * 2 * len(TRAFFIC))
            self._others.append([0] * len(_SINGLE))
        self._loading = goes_on

    def demands(self) -> Demands:
        """What all tiles ask for."""
        if self._loading or not self._moved:
            raise InvalidArgument("the trace ends before a tile is computed")
        moved, others = np.array(self._moved, np.int64), np.array(self._others, np.int64)
        return Demands(moved[:, : len(TRAFFIC)], moved[:, len(TRAFFIC) :], *others.T)


def _column(command: str, words: Sequence[str]) -> int:
    """Where the bytes of a LOAD or STORE go: a column of :data:`TRAFFIC`, from the tier so many further on."""
    known = TRAFFIC[:LOADED] if command == "LOAD" else TRAFFIC[LOADED:]
    side = "from" if command == "LOAD" else "to"
    places = {f"{side}={DRAM}": 0, f"{side}={TIER}": len(TRAFFIC)}
    place = words[3] if len(words) > 3 else f"{side}={DRAM}"
    if len(words) not in (3, 4) or words[1] not in known or place not in places:
        raise InvalidArgument(f"expected {command} {'|'.join(known)} bytes=N [{side}={DRAM}|{TIER}]")
    return TRAFFIC.index(words[1]) + places[place]


def _number(words: Sequence[str], field: str) -> int:
    """Of ``field=N``, the only word."""
    match = re.fullmatch(rf"{field}=([0-9]{{1,12}})", words[0], re.ASCII) if len(words) == 1 else None
    if match is None:
        raise InvalidArgument(f"expected {field}=N of at most 12 digits")
    return int(match[1])
