"""``fettle bench search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import recordings_in
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, stderr, stdout


def search(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings, or folders of them.")],
    only: Annotated[str, typer.Option(help="Searchers, comma-separated; all without it.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each on each recording.")] = 10,
    json: JsonOption = False,
) -> None:
    """Samplers beside Kernel Tuner's strategies and Optuna's TPE: optimum / best found after 20 to 200 evaluations.

    Needs the extra `bench` for Kernel Tuner. A strategy that stops by itself keeps what it has.

    Example: fettle bench search recordings/ --only guided,tpe,hybrid_vndx --seeds 10
    """
    from fettle.bench.peers.kerneltuner import STRATEGIES
    from fettle.bench.search import MARKS, PEERS, compare
    from fettle.search.samplers import DEFAULT

    searchers = only.split(",") if only else [DEFAULT, *PEERS, *STRATEGIES]
    report = compare(recordings_in(files), searchers, seeds, lambda text: stderr.print(text, highlight=False))
    spaces, marks = report.spaces, report.marks()
    if json:
        means = {s: {str(m): report.mean(s, m) for m in MARKS} for s in report.searchers}
        per_space = {
            space: {s: {str(m): report.mean(s, m, space) for m in MARKS} for s in report.searchers_on(space)}
            for space in spaces
        }
        print_json(
            {
                "bench": "search",
                "seeds": seeds,
                "means": means,
                "spaces": per_space,
                "marks": [attrs.asdict(mark) for mark in marks],
                "missing": dict(report.missing),
            }
        )
        return
    for title, space in (("mean over all recordings", None), *((space, space) for space in spaces)):
        table = Table(title=f"{title}: optimum / best found, mean of {seeds} seeds", title_justify="left")
        for heading in ("searcher", *(str(mark) for mark in MARKS)):
            table.add_column(heading, justify="right" if heading.isdigit() else "left")
        names = report.searchers if space is None else report.searchers_on(space)
        for name in sorted(names, key=lambda name: -report.mean(name, MARKS[1], space)):
            table.add_row(name, *(f"{report.mean(name, mark, space):.3f}" for mark in MARKS))
        stdout.print(table)
    for mark in marks:
        stdout.print(f"{'pass' if mark.met else 'MISS'}  {mark.aim}: {mark.value:.3f}, aim {mark.target:.3f}")
    for name, why in report.missing.items():
        stdout.print(f"{name}: {why}")
