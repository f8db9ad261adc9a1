"""Options that benchmarks share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fettle.graph.errors import InvalidArgument

ShapesOption = Annotated[str, typer.Option(help="Shapes N x K of the quantised products, of A,B,C,D,E.")]
ThreadsOption = Annotated[str, typer.Option(help="Thread counts.")]
TrialsOption = Annotated[int, typer.Option(min=1, help="Trials per workload that the cache has no kernel for.")]
RoundsOption = Annotated[int, typer.Option(min=1, help="How often every rival is timed.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the search and of the data.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Tune again what the cache has.")]


def recordings_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and the recordings in folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = [*path.rglob("*.json"), *path.rglob("*.json.gz")] if path.is_dir() else [path]
        if not inside:
            raise InvalidArgument(f"{path} has no recordings", hint="*.json or *.json.gz")
        found += sorted(inside)
    return found
