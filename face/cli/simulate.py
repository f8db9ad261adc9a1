"""``fettle simulate``: ask the model of a simulated device about one schedule, or time a command trace."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli.options import DeviceOption, JsonOption
from fettle.cli.output import joules, print_json, seconds, stdout
from fettle.graph.errors import InvalidArgument, NotFound
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.api import Simulation

_OPERANDS = {"pim": ("bf16", "bf16"), "npu": ("i8", "i8"), "pim:sram-lut": ("bf16", "u4:128")}
"""Formats of the operands of a product whose text names none, by backend, and of devices that differ from it: what most
such devices multiply. Tables are made of quantised weights."""


def simulate(
    device: DeviceOption,
    workload: Annotated[str | None, typer.Argument(help="A workload text; none with --trace-in.")] = None,
    schedule: Annotated[
        str, typer.Option("--schedule", help="JSON object of parameters; the others take the textbook value.")
    ] = "{}",
    trace: Annotated[Path | None, typer.Option("--trace", help="Write the commands to this file.")] = None,
    trace_in: Annotated[Path | None, typer.Option("--trace-in", help="Time the commands of this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Cycles, commands, traffic and energy of a workload on a simulated device.

    A matmul without act and weight multiplies bf16 on pim (on pim:sram-lut by u4:128) and i8 on npu.

    Example: fettle simulate "matmul m=1 n=4096 k=4096 act=bf16 weight=bf16" --device pim:gddr6-aim --json
    """
    if (workload is None) == (trace_in is None):
        raise InvalidArgument("give either a workload or --trace-in FILE")
    backend, resolved = resolve_device(device)
    if trace_in is not None:
        if trace is not None or schedule != "{}":
            raise InvalidArgument("--trace-in already says what is run", hint="leave out --schedule and --trace")
        result = backend.simulate_trace(resolved, _lines(trace_in))
    else:
        wanted = parse_workload(workload or "", resolved.backend, resolved.preset)
        result = backend.simulate(wanted, resolved, parse_schedule(schedule), trace=trace is not None)
        if trace is not None:
            _write(trace, result.trace)
    if json:
        print_json(simulation_json(result))
    else:
        stdout.print(_table(result, f"{trace_in or wanted} on {resolved}"))


def parse_workload(text: str, backend: str, preset: str = "") -> Workload:
    """The workload a text describes; the operands of a ``matmul`` may be left out.

    Raises:
        InvalidWorkload: see :meth:`Workload.parse`.
    """
    operator, *fields = text.split() or [""]
    named = {field.partition("=")[0] for field in fields}
    usual = _OPERANDS.get(f"{backend}:{preset}", _OPERANDS.get(backend))
    if operator == "matmul" and usual is not None and named.isdisjoint(("act", "weight", "rhs")):
        text = f"{text} act={usual[0]} weight={usual[1]}"
    return Workload.parse(text)


def parse_schedule(text: str) -> dict[str, int | float | str | bool]:
    """The parameters a ``--schedule`` text gives.

    Raises:
        InvalidArgument: not a JSON object of numbers, strings and truth values.
    """
    try:
        values = jsonlib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"--schedule is not JSON: {error}", hint='write --schedule \'{"dataflow": "input_stationary"}\''
        ) from None
    if not isinstance(values, dict) or not all(isinstance(v, int | float | str) for v in values.values()):
        raise InvalidArgument("--schedule must be a JSON object of numbers, strings, true and false")
    return values


def simulation_json(result: Simulation) -> dict[str, Any]:
    """What ``--json`` prints; counters of the model's own stand beside the common ones, and so do planned offsets."""
    return {
        "cycles": result.cycles,
        "seconds": result.seconds,
        "commands": dict(result.commands),
        "dram_bytes": result.dram_bytes,
        "energy_j": result.energy,
        "schedule": result.schedule.as_dict(),
        "basis": result.basis.value,
        **dict(result.counters),
        **({"offsets": dict(result.offsets)} if result.offsets else {}),
    }


def _table(result: Simulation, title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    rows = [("cycles", f"{result.cycles:,}"), (f"time ({result.basis.value})", seconds(result.seconds))]
    rows += [("DRAM traffic", f"{result.dram_bytes:,} B"), ("energy", joules(result.energy))]
    rows += [(name, f"{count:,}") for name, count in result.commands]
    rows += [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in result.counters]
    rows += [(f"scratchpad: {name}", f"from byte {offset:,}") for name, offset in result.offsets]
    rows += [("schedule", str(result.schedule))] if result.schedule.values else []
    for row in rows:
        table.add_row(*row)
    return table


def _lines(path: Path) -> list[str]:
    """The lines as editors count them; what is no text makes a line that is refused with its number."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidArgument(f"{path} is not a readable trace: {error.strerror}") from None


def _write(path: Path, lines: tuple[str, ...]) -> None:
    try:
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"cannot write the trace to {path}: {error.strerror}") from None
