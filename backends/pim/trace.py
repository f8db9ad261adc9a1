"""Command traces: one instruction a line.

Our form names a command and where it goes; fields with their usual value are left out::

    MACAB row=3 column=0 count=64 channels=0xffffffff
    HOST count=12

``count`` (1) is consecutive columns, or cycles of the host; ``channels`` (all) a bit mask; ``bank``, ``row``,
``column`` (0); ``hold`` the banks wanted until the next barrier (the instruction's own; reads and writes that say it
keep their turn where the controller reorders them). ``HOST``, ``SYNC`` and ``DONE`` are the host's. Devices with a
global buffer also read the instructions of the open AiM simulator, separated by blanks or commas, e.g.
``AiM MAC_ABK 64 0xffffffff 3``, ``W CFR 0 1``. ``#`` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fettle.backends.pim.device import Hardware
from fettle.backends.pim.preset import Command, Organisation
from fettle.backends.pim.program import DONE, HOST, SYNC, UNTOLD, Builder, Program
from fettle.graph.errors import InvalidArgument

_MOST_CYCLES = (1 << 31) - 1
"""Of the host in one line."""
_AF_ROW = 1 << 29
"""Where the look-up tables of activation functions are: a row of their own."""

_INSTRUCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "WR_SBK": ("WR", ("gpr", "channels", "bank", "row")),
    "WR_ABK": ("WRAB", ("gpr", "channels", "row")),
    "WR_GB": ("WRGB", ("count", "gpr", "channels")),
    "WR_BIAS": ("WRBIAS", ("gpr", "channels")),
    "RD_MAC": ("RDMAC", ("gpr", "channels")),
    "RD_AF": ("RDAF", ("gpr", "channels")),
    "RD_SBK": ("RD", ("gpr", "channels", "bank", "row")),
    "COPY_BKGB": ("RDCP", ("count", "channels", "bank", "row")),
    "COPY_GBBK": ("WRCP", ("count", "channels", "bank", "row")),
    "MAC_SBK": ("MAC", ("count", "channels", "bank", "row")),
    "MAC_ABK": ("MACAB", ("count", "channels", "row")),
    "AF": ("AF", ("channels",)),
    "EWMUL": ("EWMUL", ("count", "channels", "row")),
    "EWADD": (HOST, ("gpr", "gpr", "gpr")),
    "SYNC": (DONE, ()),
}
"""Instructions of the AiM simulator: our command, and the fields in their order."""


def write_trace(program: Program, channels: int) -> tuple[str, ...]:
    """The lines of a program for a device of so many channels; reading them for it gives the same program."""
    everyone = (1 << channels) - 1
    lines = []
    fields = (
        program.operations,
        program.banks,
        program.rows,
        program.columns,
        program.counts,
        program.holds,
        program.channels,
    )
    for operation, bank, row, column, count, hold, mask in zip(*(f.tolist() for f in fields), strict=True):
        words = [program.names[operation]]
        words += [f"bank={bank}"] if bank >= 0 else []
        words += [f"row={row}"] if row >= 0 else []
        words += [f"column={column}"] if column else []
        words += [f"count={count}"] if count != 1 else []
        words += [f"hold={hold % (1 << 64):#x}"] if hold != UNTOLD else []
        words += [f"channels={mask:#x}"] if mask != everyone else []
        lines.append(" ".join(words))
    return tuple(lines)


def read_trace(lines: Iterable[str], hardware: Hardware) -> Program:
    """The program of a trace.

    Raises:
        InvalidArgument: a malformed line, a command the device does not have, or a place outside of it; or no line.
    """
    builder = Builder(hardware.organisation.channels)
    for number, line in enumerate(lines, start=1):
        words = re.split(r"[\s,]+", line.split("#", 1)[0].strip(" \t\r,"))
        if words == [""]:
            continue
        try:
            if words[0] in ("AiM", "W", "R"):
                if words[1:2] == ["EOC"]:
                    if len(builder):
                        builder.add(DONE)
                    break
                _read_instruction(builder, words, hardware)
            else:
                _read_command(builder, words, hardware)
        except InvalidArgument as error:
            raise InvalidArgument(f"line {number} of the trace, {line.strip()[:80]!r}: {error.message}") from None
    program = builder.build()
    if not len(program):
        raise InvalidArgument("the trace has no command")
    return program


def _read_command(builder: Builder, words: list[str], hardware: Hardware) -> None:
    values: dict[str, int] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in ("bank", "row", "column", "count", "hold", "channels") or name in values:
            raise InvalidArgument(f"unknown or repeated field {name[:32]!r}")
        values[name] = _number(value)
    _add(builder, words[0], values, hardware)


def _read_instruction(builder: Builder, words: list[str], hardware: Hardware) -> None:
    if words[0] != "AiM":
        if words[1:2] == ["MEM"] and len(words) == 5:
            channel, bank, row = (_number(word) for word in words[2:])
            if channel >= hardware.organisation.channels:
                raise InvalidArgument(f"channel {channel} is beyond {hardware.organisation.channels - 1}, the last")
            values = {"channels": 1 << channel, "bank": bank, "row": row}
            _add(builder, "WR" if words[0] == "W" else "RD", values, hardware)
        elif words[1:2] in (["GPR"], ["CFR"]):
            builder.add(HOST)
        else:
            raise InvalidArgument("expected MEM channel bank row, GPR or CFR")
        return
    known = _INSTRUCTIONS.get(words[1]) if len(words) > 1 else None
    if known is None:
        raise InvalidArgument(f"unknown instruction; known: {' '.join(_INSTRUCTIONS)} EOC")
    name, fields = known
    if len(words) - 2 != len(fields):
        raise InvalidArgument(f"{words[1]} takes {len(fields)} fields: {' '.join(fields)}")
    values = {field: _number(word) for field, word in zip(fields, words[2:], strict=True)}
    if name == "AF":
        values["row"] = _AF_ROW
    values.pop("gpr", None)
    _add(builder, name, values, hardware)


def _add(builder: Builder, name: str, values: dict[str, int], hardware: Hardware) -> None:
    commands = hardware.preset.commands
    if name in (HOST, SYNC, DONE):
        if not values.keys() <= {"count"}:
            raise InvalidArgument(f"{name} goes nowhere: it takes no {' '.join(values.keys() - {'count'})}")
        _check_counts(name, values, _MOST_CYCLES if name == HOST else 1)
    elif name in commands:
        _check(name, commands[name], values, hardware.organisation)
    else:
        raise InvalidArgument(f"{hardware.preset.name} has no command {name[:32]!r}; it has {' '.join(commands)}")
    builder.add(name, **values)


def _check(name: str, command: Command, values: dict[str, int], org: Organisation) -> None:
    """Whether a command is told where it goes, and that is on the device."""
    limits = {
        "bank": org.banks - 1,
        "row": org.rows - 1 if name != "AF" else _AF_ROW,
        "hold": (1 << org.banks) - 1,
        "channels": (1 << org.channels) - 1,
    }
    for field, limit in limits.items():
        if values.get(field, 0) > limit:
            shown = "#x" if field in ("hold", "channels") else "d"
            raise InvalidArgument(f"{field}={values[field]:{shown}} is beyond {limit:{shown}}, the device's last")
    if values.get("channels") == 0:
        raise InvalidArgument("channels=0 is no channel")
    if (command.open or command.opens) and "row" not in values:
        raise InvalidArgument(f"{name} needs a row")
    if command.scope == "bank" and "bank" not in values:
        raise InvalidArgument(f"{name} needs a bank")
    # What moves no column is one command.
    columns = org.buffer_columns if name == "WRGB" else org.columns if command.open or command.bus_bytes else 1
    _check_counts(name, values, columns)


def _check_counts(name: str, values: dict[str, int], most: int) -> None:
    """Whether columns, or cycles, of a line are at most so many."""
    if values.get("count") == 0:
        raise InvalidArgument("count=0 is nothing")
    end = values.get("column", 0) + values.get("count", 1)
    if end > most:
        what = "cycles of a line" if name == HOST else "columns it can have"
        raise InvalidArgument(f"{name} ends at {end}, beyond {most}, the most {what}")


def _number(text: str) -> int:
    """A whole number, decimal or hexadecimal."""
    if re.fullmatch(r"[0-9]{1,18}|0[xX][0-9a-fA-F]{1,16}", text) is None:
        raise InvalidArgument(f"{text[:32]!r} is not a whole number")
    return int(text, 0) if text[:2].lower() == "0x" else int(text)
