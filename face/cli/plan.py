"""``fettle plan``: offsets in one arena for buffers with lifetimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fettle.cli.options import JsonOption
from fettle.cli.output import DONE, FAILED, print_json, print_table, seconds, stderr, stdout
from fettle.graph.errors import InvalidArgument, NotFound
from fettle.graph.memory import plan as planner
from fettle.graph.memory.buffers import lower_bound, read_buffers


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Buffers: id,lower,upper,size; times half-open.")],
    capacity: Annotated[int, typer.Option("--capacity", help="Bytes of the arena.")],
    time: Annotated[float, typer.Option("--time", min=1.0, help="Seconds that planning may take.")] = 55.0,
    json: JsonOption = False,
) -> None:
    """Find offsets in one memory for buffers with lifetimes. Exits with 1, and the lowest peak found, if none fit.

    Example: fettle plan examples/buffers.csv --capacity 24576 --json
    """
    if capacity < 1:
        raise InvalidArgument(f"--capacity must be at least 1, not {capacity}")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            buffers = read_buffers(lines, str(file))
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}") from None
    found = planner.plan(buffers, capacity, seconds=time)
    if json:
        print_json(
            {
                "capacity": found.capacity,
                "peak": found.peak,
                "offsets": dict(found.offsets),
                "seconds": found.seconds,
                "method": found.method,
            }
        )
    else:
        table = Table("id", "offset", "size", title=f"{len(buffers)} buffers, peak {found.peak:,} B")
        for buffer in buffers:
            table.add_row(buffer.id, f"{found.offsets[buffer.id]:,}", f"{buffer.size:,}")
        print_table(table, folded=("id",))
        stdout.print(f"found by {found.method} in {seconds(found.seconds)}")
    if not found.fits:
        why = f"at least {lower_bound(buffers):,} B live at once" if found.proved else "no plan was found in time"
        stderr.print(f"does not fit {capacity:,} B: the lowest peak found is {found.peak:,} B ({why})")
    raise typer.Exit(DONE if found.fits else FAILED)
