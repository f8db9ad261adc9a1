"""Device presets: organisation, timing, commands and constraints, read from ``data/NAME.json``.

A file states its source. Timings are whole clock cycles under JEDEC's names without the t; a constraint is
``[level, commands before, commands after, cycles between]``: the second may follow the first, in the same channel,
bank group or bank, only so many cycles later. Cycles are sums and differences of timings, at least 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import attrs
import cattrs

from fettle.backends.pim.scaling import Scaling
from fettle.graph.errors import Internal, InvalidDevice

LEVELS = ("channel", "bankgroup", "bank")

_TERM = re.compile(r"([+-]?)\s*([A-Z]+|[0-9]+)\s*")


@attrs.frozen
class Organisation:
    """What a device is made of.

    Attributes:
        kind: ``global_buffer`` (a buffer of input columns shared by the units of a channel, an accumulator per unit)
            or ``register_file`` (every unit has input and accumulator registers, all lanes accumulate apart).
        clock_ns: one cycle.
        channels: independent command streams (pseudo channels for HBM).
        bank_groups, banks: of one channel.
        rows, columns, column_bytes: of one bank; a column is what one command moves.
        units: processing units of one channel.
        buffer_columns: input columns a channel's buffer (or a unit's input registers) holds.
        accumulators: outputs a unit accumulates at a time.
        row_buffers: 2 where commands of the units have a row buffer of their own.
        queue: requests a channel's controller holds.
        eager_precharge: the controller closes a row as soon as no request before the next barrier wants it.
        reorders: which of the requests that wait in its queue a controller takes first: the ``oldest_ready``, or
            ``columns_first``, those of open rows; empty where it takes them in order.
        softmax_lanes: elements a near-memory softmax unit takes a cycle; 0 without one.
    """

    kind: str
    clock_ns: float
    channels: int
    bank_groups: int
    banks: int
    rows: int
    columns: int
    column_bytes: int
    units: int
    buffer_columns: int
    accumulators: int
    row_buffers: int
    queue: int
    eager_precharge: bool
    reorders: str = ""
    softmax_lanes: int = 0

    @property
    def lanes(self) -> int:
        """16-bit elements of a column."""
        return self.column_bytes // 2


@attrs.frozen
class Command:
    """One DRAM command.

    Attributes:
        scope: who it addresses: ``bank`` or ``channel``.
        reach: banks whose array it reads or writes a column of.
        open: (activate, precharge) that bring the row it needs into the row buffer; empty if it needs none.
        opens, closes: it opens or closes rows itself.
        mode: ``array`` or ``register``: the MOD command switches between the two. Empty: works in both.
        buffer: which row buffer it uses.
        latency: cycles from issue to completion.
        blocking: the host waits for it before it sends anything else.
        queue: ``reads`` or ``writes``: where it waits if the controller reorders requests; empty if it keeps its turn.
        bus_bytes: bytes on the channel's data bus.
        energy_pj: of one issue on one channel, all banks it reaches together.
    """

    scope: str
    reach: int = 0
    open: tuple[str, ...] = ()
    opens: bool = False
    closes: bool = False
    mode: str = ""
    buffer: int = 0
    latency: str = "1"
    blocking: bool = False
    queue: str = ""
    bus_bytes: int = 0
    energy_pj: float = 0.0


@attrs.frozen
class Window:
    """At most ``count`` of ``commands`` within ``cycles`` (four-activate window)."""

    commands: tuple[str, ...]
    count: int
    cycles: str


@attrs.frozen
class Preset:
    """One preset as read.

    Attributes:
        groups: names for sets of commands, used in constraints only.
        shared_row_buffer: constraints added where a device of two row buffers is limited to one.
        scaling: how devices with other numbers of banks, lanes and buffer bytes follow from it; None if they do not.
    """

    name: str
    source: str
    energy_source: str
    organisation: Organisation
    timing: Mapping[str, int]
    commands: Mapping[str, Command]
    groups: Mapping[str, tuple[str, ...]]
    constraints: tuple[tuple[str, str, str, str], ...]
    windows: tuple[Window, ...] = ()
    shared_row_buffer: tuple[tuple[str, str, str, str], ...] = ()
    scaling: Scaling | None = None

    def cycles(self, formula: str) -> int:
        """A sum of timings, at least 0."""
        total, position = 0, 0
        for match in _TERM.finditer(formula):
            if match.start() != position:
                break
            position = match.end()
            sign, term = match.groups()
            value = int(term) if term.isdigit() else self.timing[term]
            total += -value if sign == "-" else value
        if position != len(formula):
            raise Internal(f"preset {self.name}: malformed number of cycles {formula!r}")
        return max(total, 0)

    def expand(self, names: str) -> tuple[str, ...]:
        """Commands that a comma-separated list of commands and groups names; ``*`` is all."""
        if names == "*":
            return tuple(self.commands)
        found: list[str] = []
        for name in names.split(", "):
            found += self.groups.get(name, (name,))
        return tuple(dict.fromkeys(found))


@cache
def preset_names() -> tuple[str, ...]:
    """DRAM presets there are data files for, sorted."""
    folder = resources.files("fettle.backends.pim.data")
    found = (entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))
    return tuple(sorted(found))


@cache
def load(name: str) -> dict[str, Any]:
    """The data file of a preset as plain data.

    Raises:
        InvalidDevice: there is none of that name.
    """
    if name not in preset_names():
        raise InvalidDevice(f"pim has no preset {name!r}", hint=f"presets: {' '.join(preset_names())}")
    text = (resources.files("fettle.backends.pim.data") / f"{name}.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


@cache
def read_preset(name: str) -> Preset:
    """A DRAM preset.

    Raises:
        InvalidDevice: there is none of that name.
    """
    return cattrs.Converter(forbid_extra_keys=True).structure(load(name), Preset)
