"""An independent check of issued commands: slow, simple, and written from what the timings mean.

It shares nothing with the engine but the figures of the timings (``tRCD`` and so on): every rule is spelled out here,
for every two commands of a channel, as is the state of rows and modes.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.engine import Issued
from fettle.backends.pim.program import SYNC, Program


class Event(NamedTuple):
    time: int
    command: str
    bank: int  # -1: all banks
    row: int


OPENS_ROW = {"ACT", "ACTAB", "ACTH"}
CLOSES_ROW = {"PRE", "PREAB"}
TO_PINS = {"RD", "RDMAC", "RDAF"}
FROM_PINS = {"WR", "WRAB", "WRGB", "WRBIAS", "WRREG"}
READS_ARRAY = {"RD", "MAC", "MACAB", "RDCP", "EWMUL", "AF", "MACH", "ALUH"}
WRITES_ARRAY = {"WR", "WRAB", "WRCP", "EWMUL", "WRH", "WRREG"}
ALL_BANKS = {"ACTAB", "PREAB", "MACAB", "AF", "EWMUL", "WRAB", "WRGB", "WRBIAS", "RDMAC", "RDAF", "MOD", "REF"}
REGISTERS = {"WRGB", "WRBIAS", "RDMAC", "RDAF"}


def events(issued: Issued, names: Sequence[str]) -> dict[int, list[Event]]:
    """Commands of each channel in the order they were issued."""
    found: dict[int, list[Event]] = defaultdict(list)
    rows = zip(
        issued.times.tolist(),
        issued.commands.tolist(),
        issued.channels.tolist(),
        issued.banks.tolist(),
        issued.rows.tolist(),
        strict=True,
    )
    for time, command, channel, bank, row in rows:
        found[channel].append(Event(time, names[command], -1 if names[command] in ALL_BANKS else bank, row))
    return found


def violations(issued: Issued, hardware: Hardware, slack: int = 0) -> list[str]:
    """Everything that is wrong with a run; empty if nothing is."""
    found = []
    for channel, commands in events(issued, hardware.tables.names).items():
        found += [f"channel {channel}: {wrong}" for wrong in _channel(commands, hardware, slack)]
    return found


def misplaced(issued: Issued, hardware: Hardware, program: Program) -> list[str]:
    """What a controller that reorders requests got wrong; empty if nothing.

    Every column that a channel was sent is accessed once, and no other; those of one place keep their order, and none
    is accessed before the host sent it, one instruction a cycle, nor across a wait.
    """
    wrong = []
    columns = {name for name, command in hardware.preset.commands.items() if command.open}
    for channel in np.unique(issued.channels).tolist():  # one of each kind
        sent: dict[tuple[int, int, int], list[tuple[str, int, int]]] = defaultdict(list)
        waits = 0
        for n, name in enumerate(program.names[i] for i in program.operations.tolist()):
            waits += name == SYNC
            if name in columns and int(program.channels[n]) >> channel & 1:
                bank, row, first = int(program.banks[n]), int(program.rows[n]), int(program.columns[n])
                for column in range(first, first + int(program.counts[n])):
                    sent[bank, row, column].append((name, n, waits))
        phase = 0
        for at in np.flatnonzero(issued.channels == channel).tolist():
            name, time = hardware.tables.names[issued.commands[at]], int(issued.times[at])
            if name not in columns:
                continue
            place = int(issued.banks[at]), int(issued.rows[at]), int(issued.columns[at])
            if not sent[place] or sent[place][0][0] != name:
                wrong.append(f"channel {channel}: {name} at {place} was not to come now")
                continue
            _, n, waits = sent[place].pop(0)
            if time <= n or waits < phase:
                wrong.append(f"channel {channel}: {name} at {place} comes in cycle {time}, too soon or too late")
            phase = waits
        wrong += [f"channel {channel}: {place} was not accessed" for place, left in sent.items() if left]
    return wrong


def _channel(commands: list[Event], hardware: Hardware, slack: int) -> list[str]:
    wrong = [f"{a} and {b} in one cycle" for a, b in itertools.pairwise(commands) if b.time <= a.time]
    timing = hardware.preset.timing
    rules = {"gddr6-aim": aim_gap, "hbm-pim": hbm_pim_gap}.get(hardware.preset.name, plain_gap)
    # Rules know command and bank only: the last of a kind is the nearest, and a gap need not be worked out twice.
    latest: dict[tuple[str, int], Event] = {}
    gaps: dict[tuple[str, int], dict[tuple[str, int], int]] = defaultdict(dict)
    for after in commands:
        kind = after.command, after.bank
        known = gaps[kind]
        for other, before in latest.items():
            gap = known.get(other)
            if gap is None:
                gap = known[other] = rules(before, after, timing, hardware)
            if after.time - before.time < gap:
                wrong.append(f"{before} then {after}: less than {gap} apart")
        latest[kind] = after
    wrong += _states(commands, hardware)
    if hardware.preset.name not in ("gddr6-aim", "upmem"):  # neither limits four activates in a window
        wrong += _four_activates(commands, timing.get("FAW", timing.get("XAW", 0)))
    if hardware.refresh:
        wrong += _refreshes(commands, hardware, slack)
    return wrong


def _reach(event: Event, banks: int) -> range:
    return range(banks) if event.bank < 0 else range(event.bank, event.bank + 1)


def _together(a: Event, b: Event) -> bool:
    """They reach a common bank."""
    return a.bank < 0 or b.bank < 0 or a.bank == b.bank


def _same_group(a: Event, b: Event, hardware: Hardware) -> bool:
    size = hardware.organisation.banks // hardware.organisation.bank_groups
    return a.bank < 0 or b.bank < 0 or a.bank // size == b.bank // size


def _states(commands: list[Event], hardware: Hardware) -> list[str]:
    """Rows: columns are of open rows, opening needs a closed bank, refresh all closed. Modes: as commands need."""
    wrong = []
    org = hardware.organisation
    dual = org.row_buffers == 2
    opened: dict[tuple[int, int], int] = {}
    register_mode = False
    for event in commands:
        name = event.command
        unit_side = dual and name in {"ACTAB", "PREAB", "MACAB"}
        keys = [(int(unit_side), bank) for bank in _reach(event, org.banks)]
        if name in OPENS_ROW:
            if any(key in opened for key in keys):
                wrong.append(f"{event} opens an open bank")
            opened.update(dict.fromkeys(keys, event.row))
        elif name in CLOSES_ROW:
            for key in keys:
                opened.pop(key, None)
        elif name in READS_ARRAY | WRITES_ARRAY:
            if any(opened.get(key) != event.row for key in keys):
                wrong.append(f"{event} meets row {[opened.get(key) for key in keys]}")
            if name == "WRAB":
                for key in keys:
                    opened.pop(key, None)
        elif name == "REF" and opened:
            wrong.append(f"{event} with open rows")
        moded = "MOD" in hardware.preset.commands and name not in {"REF", "MOD"} | CLOSES_ROW | OPENS_ROW
        if moded and register_mode != (name in REGISTERS):
            wrong.append(f"{event} in the wrong mode")
        register_mode ^= name == "MOD"
    return wrong


def _four_activates(commands: list[Event], window: int) -> list[str]:
    times = [e.time for e in commands if e.command in {"ACT", "ACTH"}]
    return [f"five activates from {a} to {b}" for a, b in zip(times, times[4:], strict=False) if b - a < window]


def _refreshes(commands: list[Event], hardware: Hardware, slack: int) -> list[str]:
    """The n-th refresh comes at most ``slack`` intervals, and the time to close all rows, after it is due."""
    times = [e.time for e in commands if e.command == "REF"]
    last = commands[-1].time
    interval = hardware.preset.timing["REFI"]
    ahead = interval // 2 if hardware.preset.name == "hbm-pim" else 0  # two ranks take turns
    late = (slack + 1) * interval
    wrong = [f"refresh {n} at {t}" for n, t in enumerate(times, 1) if not 0 <= t + ahead - n * interval <= late]
    if len(times) < (last + ahead) // interval - slack - 1:
        wrong.append(f"{len(times)} refreshes in {last} cycles")
    return wrong


def _rows_gap(a: Event, b: Event, t: Mapping[str, int]) -> int:
    """Rules on opening and closing rows that all devices share; the two reach a common bank."""
    if a.command in OPENS_ROW and b.command in CLOSES_ROW:
        return t["RAS"]
    if a.command in CLOSES_ROW and b.command in OPENS_ROW:
        return t["RP"]
    if a.command in CLOSES_ROW and b.command == "REF":
        return t["RP"]
    if a.command in OPENS_ROW and b.command == "REF":
        return t["RC"]
    if a.command == "REF" and b.command in OPENS_ROW | {"REF"}:
        return t["RFC"]
    return 0


def aim_gap(a: Event, b: Event, t: Mapping[str, int], hardware: Hardware) -> int:
    """Cycles the GDDR6-AiM wants between two commands."""
    gap = 0
    in_delay = {"WR": t["CWL"], "WRAB": t["CWL"], "WRGB": t["CWLGB"], "WRBIAS": t["CWLREG"]}
    out_delay = {"RD": t["CL"], "RDMAC": t["CLREG"], "RDAF": t["CLREG"]}
    opening = {
        "MAC": "RCDMAC",
        "MACAB": "RCDMAC",
        "AF": "RCDAF",
        "EWMUL": "RCDEWMUL",
        "RDCP": "RCDRDCP",
        "WRCP": "RCDWRCP",
        "RD": "RCDRD",
        "WR": "RCDWR",
        "WRAB": "RCDWR",
    }
    if a.command == "MOD":
        return t["MODCH"]
    burst = t["BLREG"] if a.command in {"WRBIAS", "RDMAC", "RDAF"} else t["BL"]
    # The pins carry one burst at a time, and turn round slowly.
    if (a.command in out_delay and b.command in out_delay) or (a.command in in_delay and b.command in in_delay):
        gap = max(gap, burst)
    if a.command in out_delay and b.command in in_delay:
        gap = max(gap, out_delay[a.command] + burst + 3 + t["WPRE"] - in_delay[b.command])
    if a.command in in_delay and b.command in out_delay:
        near = a.command in {"WRAB", "WRBIAS"} or (a.command == "WR" and _same_group(a, b, hardware))
        gap = max(gap, in_delay[a.command] + burst + (t["WTRL"] if near else t["WTRS"]))
    # Column commands share the paths between bank groups, those of one group also the path inside.
    reads = {"RD", "MAC", "MACAB", "RDCP", "RDMAC", "RDAF", "EWMUL"}
    writes = {"WR", "WRAB", "WRCP", "WRGB", "WRBIAS", "EWMUL"}
    for kind in (reads, writes):
        if a.command in kind and b.command in kind and "EWMUL" not in (a.command, b.command):
            gap = max(gap, t["CCDS"])
        if a.command in kind - {"WRGB"} and b.command in kind - {"WRGB"} and _same_group(a, b, hardware):
            gap = max(gap, t["CCDL"])
    if not _together(a, b):
        if a.command == "ACT" and b.command == "ACT":
            gap = max(gap, t["RRDL"] if _same_group(a, b, hardware) else t["RRDS"])
        if a.command in CLOSES_ROW and b.command in CLOSES_ROW:
            gap = max(gap, t["RP"])
        if b.command == "PRE" and _same_group(a, b, hardware):  # GDDR6 states these for the bank group
            gap = max(gap, t["RTP"] if a.command in {"RD", "MAC", "RDCP"} else 0)
            gap = max(gap, t["CWL"] + t["BL"] + t["WR"] if a.command in {"WR", "WRCP"} else 0)
        return gap
    gap = max(gap, _rows_gap(a, b, t))
    if a.command in OPENS_ROW and b.command in opening:
        gap = max(gap, t[opening[b.command]])
    if a.command in READS_ARRAY and b.command in CLOSES_ROW:
        gap = max(gap, t["RTP"])
    if a.command in {"WR", "WRCP"} and b.command in CLOSES_ROW:
        gap = max(gap, t["CWL"] + t["BL"] + t["WR"])
    if a.command == "EWMUL" and b.command in CLOSES_ROW:
        gap = max(gap, t["CWL"] + t["WR"])
    if a.command == "WRAB" and b.command in OPENS_ROW | {"REF"}:
        gap = max(gap, t["CWL"] + t["BL"] + t["WR"] + t["RP"])
    if a.command in OPENS_ROW and b.command in OPENS_ROW:
        gap = max(gap, t["RRDL"])
    if a.command in CLOSES_ROW and b.command in CLOSES_ROW:
        gap = max(gap, t["RP"])
    return gap


def hbm_pim_gap(a: Event, b: Event, t: Mapping[str, int], hardware: Hardware) -> int:
    """Cycles the HBM-PIM wants between two commands."""
    reads, writes = {"RD", "MACH", "ALUH"}, {"WR", "WRH", "WRREG"}
    near = _same_group(a, b, hardware)
    gap = 0
    if (a.command in reads and b.command in reads) or (a.command in writes and b.command in writes):
        gap = t["CCDL"] if near else t["CCDS"]
    if a.command in reads and b.command in writes:
        gap = t["RL"] + t["BL"] + t["RTRS"] - t["WL"]
    if a.command in writes and b.command in reads:
        gap = t["WL"] + t["BL"] + t["WTRL"]
    if a.command in OPENS_ROW and b.command in OPENS_ROW:
        gap = t["RC"] if a.bank == b.bank else t["RRDL"] if near else t["RRDS"]
    if not _together(a, b):
        return gap
    gap = max(gap, _rows_gap(a, b, t))
    if a.command in OPENS_ROW and b.command in reads:
        gap = max(gap, t["RCDRD"])
    if a.command in OPENS_ROW and b.command in writes:
        gap = max(gap, t["RCDWR"])
    if a.command in reads and b.command in CLOSES_ROW:
        gap = max(gap, t["BL"] + t["RTPL"] - t["CCDL"])
    if a.command in writes and b.command in CLOSES_ROW:
        gap = max(gap, t["WL"] + t["BL"] + t["WR"])
    return gap


def plain_gap(a: Event, b: Event, t: Mapping[str, int], hardware: Hardware) -> int:
    """Cycles a device with a global buffer and no modes wants between two commands (AttAcc, NeuPIMs, UPMEM)."""
    gap = 0
    unit = {"ACTAB", "PREAB", "MACAB"}
    # With two row buffers, what units and what the host do to rows is independent.
    apart = hardware.organisation.row_buffers == 2 and (a.command in unit) != (b.command in unit)
    in_delay = {"WR": t["CWL"], "WRGB": t["CWLGB"], "WRBIAS": t["CWLREG"]}
    if (a.command in TO_PINS and b.command in TO_PINS) or (a.command in in_delay and b.command in in_delay):
        gap = t["CCDS"]
    if a.command in TO_PINS and b.command in in_delay:
        gap = t["CL"] + t["BL"] + 1 - t["CWL"]
    if a.command in in_delay and b.command in TO_PINS:
        near = b.command == "RDMAC" if a.command == "WR" else False
        near = (
            near
            or (a.command == b.command == "WR")
            or (a.command == "WR" and b.bank >= 0 and _same_group(a, b, hardware))
        )
        gap = in_delay[a.command] + t["BL"] + (t["WTRL"] if near else t["WTRS"])
    if a.command == b.command and a.command in {"RD", "WR"} and _same_group(a, b, hardware):
        gap = max(gap, t["CCDL"])
    if a.command == "MACAB" and b.command in {"MACAB", "RDMAC"}:
        gap = t["CCDAB"]
    if a.command == "WRGB" and b.command == "MACAB":
        gap = t["CWLGB"] + t["BL"]
    if a.command == "ACT" and b.command == "ACT":
        gap = t["RC"] if a.bank == b.bank else t["RRDL"] if _same_group(a, b, hardware) else t["RRDS"]
    if a.command in OPENS_ROW and b.command in OPENS_ROW and not apart and "ACTAB" in (a.command, b.command):
        gap = max(gap, t["RC"] if a.command == b.command else t["RRDS"])
    if apart or not _together(a, b):
        return gap
    gap = max(gap, _rows_gap(a, b, t))
    opening = {"MACAB": "RCDMAC", "RD": "RCDRD", "WR": "RCDWR"}
    if a.command in OPENS_ROW and b.command in opening:
        gap = max(gap, t[opening[b.command]])
    if a.command in {"RD", "MACAB"} and b.command in CLOSES_ROW:
        gap = max(gap, t["RTP"])
    if a.command == "WR" and b.command in CLOSES_ROW:
        gap = max(gap, t["CWL"] + t["BL"] + t["WR"])
    return gap
