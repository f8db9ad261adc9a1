"""``fettle bench lottery``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.progress import track
from rich.table import Table

from fettle.cli.benches.options import recordings_in
from fettle.cli.options import JsonOption
from fettle.cli.output import INTERRUPTED, print_json, print_table, stderr, stdout
from fettle.graph.errors import InvalidArgument


def lottery(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings, or folders of them.")],
    only: Annotated[str, typer.Option(help="Samplers, comma-separated; all without it.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each on each recording.")] = 20,
    budgets: Annotated[str, typer.Option(help="Evaluations after which samplers are compared.")] = "25,50,100,200",
    parquet: Annotated[Path | None, typer.Option(help="Write every evaluation to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Many seeds of every sampler at equal budgets: quartiles of optimum / best found, and who wins how often.

    Ctrl-C stops early and reports what every sampler has searched; the exit code is then 130.

    Example: fettle bench lottery bench/results/zen4/gemv --only guided,random,evolution --seeds 20
    --parquet lottery.parquet
    """
    from fettle.bench.lottery import Lottery, schema
    from fettle.search.samplers import SAMPLERS
    from fettle.store.parquet import parquet_file

    game = Lottery(recordings_in(files), only.split(",") if only else list(SAMPLERS), seeds, _numbers(budgets))
    interrupted = False
    with nullcontext() if parquet is None else parquet_file(parquet, schema()) as append:
        try:
            for ticket in track(game.draw(), "searches", game.searches, console=stderr, transient=True):
                if append is not None:
                    append(ticket.rows())
        except KeyboardInterrupt:
            interrupted = True
    standings = game.standings()
    if json:
        print_json(
            {
                "bench": "lottery",
                "seeds": seeds,
                "rounds": game.rounds,
                "interrupted": interrupted,
                "standings": [attrs.asdict(standing) for standing in standings],
                "missing": game.missing,
            }
        )
    else:
        for budget in game.budgets:
            table = Table(title=f"{budget} evaluations, {game.rounds} rounds: optimum / best", title_justify="left")
            table.add_column("sampler")
            for heading in ("lower quartile", "median", "upper quartile", "wins"):
                table.add_column(heading, justify="right")
            for s in (s for s in standings if s.budget == budget):
                table.add_row(s.sampler, *(f"{v:.3f}" for v in (s.low, s.median, s.high)), f"{100 * s.wins:.0f} %")
            print_table(table, folded=("sampler",))
        for name, why in game.missing.items():
            stdout.print(f"{name}: {why}", highlight=False)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InvalidArgument(f"malformed --budgets {text[:64]!r}", hint="whole numbers: --budgets 25,50,100") from None
