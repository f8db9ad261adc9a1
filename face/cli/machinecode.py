"""``fettle cache code``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, print_table
from fettle.graph.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from fettle.backends.triton.sass import LaunchCode
    from fettle.store.api import Store

_LEAST = 8
"""Characters of a hash that name an artifact."""


def code(
    artifact: Annotated[str, typer.Argument(help="SHA-256 of a GPU kernel's artifact, or its first characters.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write abi.json, cubins and listings to this folder.")
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Count the machine instructions of a stored GPU kernel's main loops, by kind. Needs Triton, no GPU.

    Example: fettle cache code ARTIFACT
    """
    from fettle.backends.triton.program import Program
    from fettle.backends.triton.sass import launch_codes, unpack
    from fettle.store.open import open_store

    with open_store(store) as opened:
        program = Program.of(opened.get_artifact(_whole(opened, artifact)))
    codes = launch_codes(program)
    if out is not None:
        try:
            unpack(program, out)
        except OSError as error:
            raise InvalidArgument(f"cannot write the code to {out}: {error.strerror}") from None
    if json:
        print_json({"target": program.target, "launches": [_data(one) for one in codes]})
        return
    table = Table("launch", "threads", "registers", "local memory", "shared memory", "main loop", "of which")
    for one in codes:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.loop.counts, key=lambda pair: -pair[1]))
        numbers = (one.threads, one.resources.registers, one.resources.spills, one.shared, one.loop.total)
        table.add_row(one.template, *map(str, numbers), kinds)
    print_table(table, folded=("launch", "of which"))


def _whole(store: Store, start: str) -> str:
    """The hash of the one kernel's artifact that begins so."""
    if len(start) < _LEAST:
        raise InvalidArgument(
            f"{start!r} is too short", hint=f"at least {_LEAST} characters, as `fettle cache list` has"
        )
    found = {kernel.artifact_sha256 for kernel in store.kernels() if kernel.artifact_sha256.startswith(start.lower())}
    if len(found) > 1:
        raise InvalidArgument(f"{len(found)} artifacts begin with {start!r}", hint="give more characters")
    if not found:
        raise NotFound(f"no cached kernel's artifact begins with {start!r}", hint="fettle cache list")
    return found.pop()


def _data(one: LaunchCode) -> dict[str, Any]:
    return attrs.asdict(one) | {"loop": {"total": one.loop.total, **dict(one.loop.counts)}}
