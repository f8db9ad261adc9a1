"""Options that benchmarks share."""

from __future__ import annotations

from typing import Annotated

import typer

ShapesOption = Annotated[str, typer.Option(help="Shapes N x K of the quantised products, of A,B,C,D,E.")]
ThreadsOption = Annotated[str, typer.Option(help="Thread counts.")]
TrialsOption = Annotated[int, typer.Option(min=1, help="Trials per workload that the cache has no kernel for.")]
RoundsOption = Annotated[int, typer.Option(min=1, help="How often every rival is timed.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the search and of the data.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Tune again what the cache has.")]
