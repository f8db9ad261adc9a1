"""``fettle bench search``."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import recordings_in
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table, stderr, stdout

if TYPE_CHECKING:
    from fettle.bench.newdevice import NewDevice
    from fettle.bench.overhead import Overhead
    from fettle.bench.search import Mark, SearchReport


def search(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings, or folders of them.")],
    only: Annotated[str, typer.Option(help="Searchers, comma-separated; all without it.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Searches of each on each recording.")] = 10,
    references: Annotated[
        int, typer.Option(min=0, help="Measurements of a new device, to rank the rest of it; 0 leaves that out.")
    ] = 10,
    overhead: Annotated[
        int, typer.Option(min=0, help="Trials of each search whose proposals are timed; 0 leaves that out.")
    ] = 400,
    json: JsonOption = False,
) -> None:
    """Samplers beside Kernel Tuner's strategies and Optuna's TPE: optimum / best found after 20 to 200 evaluations.

    Then each recording in the part of a new device, of which few measurements and recordings of others are known; and
    what our proposals cost, in synthetic spaces.

    Needs the extra `bench` for Kernel Tuner. A strategy that stops by itself keeps what it has.

    Example: fettle bench search bench/results/zen4/gemv --only guided,tpe --seeds 10
    """
    from fettle.bench.newdevice import bench_new_devices
    from fettle.bench.overhead import bench_overhead
    from fettle.bench.peers.kerneltuner import STRATEGIES
    from fettle.bench.search import PEERS, compare
    from fettle.search.samplers import DEFAULT

    searchers = only.split(",") if only else [DEFAULT, *PEERS, *STRATEGIES]
    recordings = recordings_in(files)
    show = functools.partial(stderr.print, highlight=False)
    report = compare(recordings, searchers, seeds, show)
    placed = bench_new_devices(recordings, references, seeds, show) if references else []
    costs = bench_overhead(overhead, show) if overhead else []
    marks = [*report.marks(), *(mark for device in placed for mark in device.marks()), *(c.mark() for c in costs)]
    if json:
        print_json(_as_json(report, placed, costs, marks, seeds))
        return
    for space in (None, *report.spaces):
        print_table(_means(report, space, seeds), folded=("searcher",))
    if placed:
        print_table(_new_devices(placed, references), folded=("device",))
    if costs:
        print_table(_overheads(costs))
    for mark in marks:
        stdout.print(f"{'pass' if mark.met else 'MISS'}  {mark.aim}: {mark.value:.3f}, aim {mark.target:.3f}")
    for name, why in report.missing.items():
        stdout.print(f"{name}: {why}")


def _as_json(
    report: SearchReport,
    placed: Sequence[NewDevice],
    costs: Sequence[Overhead],
    marks: Sequence[Mark],
    seeds: int,
) -> dict[str, Any]:
    from fettle.bench.search import MARKS

    def means(searchers: Sequence[str], space: str | None) -> dict[str, dict[str, float]]:
        return {name: {str(mark): report.mean(name, mark, space) for mark in MARKS} for name in searchers}

    return {
        "bench": "search",
        "seeds": seeds,
        "means": means(report.searchers, None),
        "spaces": {space: means(report.searchers_on(space), space) for space in report.spaces},
        "new_devices": [attrs.asdict(device) for device in placed],
        "overhead": [attrs.asdict(cost) for cost in costs],
        "marks": [attrs.asdict(mark) for mark in marks],
        "missing": dict(report.missing),
    }


def _means(report: SearchReport, space: str | None, seeds: int) -> Table:
    """Searchers on one recording, or their means over all; best first, as they are after the second mark."""
    from fettle.bench.search import MARKS

    title = "mean over all recordings" if space is None else space
    table = Table(title=f"{title}: optimum / best found, mean of {seeds} seeds", title_justify="left")
    for heading in ("searcher", *map(str, MARKS)):
        table.add_column(heading, justify="right" if heading.isdigit() else "left")
    names = report.searchers if space is None else report.searchers_on(space)
    for name in sorted(names, key=lambda name: -report.mean(name, MARKS[1], space)):
        table.add_row(name, *(f"{report.mean(name, mark, space):.3f}" for mark in MARKS))
    return table


def _new_devices(placed: Sequence[NewDevice], references: int) -> Table:
    """Rank correlations with what was not measured."""
    table = Table(title=f"a new device, from {references} measurements: rank correlation on the rest")
    for heading in ("device", "ours", "least", "best known device", "alone", "same points alone", "ceiling"):
        table.add_column(heading, justify="left" if heading == "device" else "right")
    for device in placed:
        figures = (device.ours, device.lowest, device.nearest, device.alone, device.references_alone, device.ceiling)
        table.add_row(device.space, *("" if figure is None else f"{figure:.3f}" for figure in figures))
    return table


def _overheads(costs: Sequence[Overhead]) -> Table:
    """Milliseconds a candidate."""
    table = Table(title=f"proposals of {costs[0].trials} trials: ms a candidate, and memory", title_justify="left")
    for heading in ("points", "failures", "at a time", "mean", "p95", "longest", "MiB"):
        table.add_column(heading, justify="right")
    for cost in costs:
        times = (f"{1e3 * seconds:.1f}" for seconds in (cost.mean, cost.p95, cost.longest))
        memory = f"{cost.peak / 2**20:.0f}"
        table.add_row(str(cost.points), f"{cost.failures:.0%}", str(cost.batch), *times, memory)
    return table
