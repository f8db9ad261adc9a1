"""``fettle bench cpu`` and ``fettle bench gemv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.table import Table
from rich.text import Text

from fettle.cli.benches.options import ForceOption, RoundsOption, SeedOption, ShapesOption, ThreadsOption, TrialsOption
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import INTERRUPTED, print_json, print_table, seconds, stderr
from fettle.cli.progress import JobProgress
from fettle.graph.errors import InvalidArgument

if TYPE_CHECKING:
    from fettle.bench.cpu import Bench
    from fettle.bench.goals import Goal
    from fettle.bench.peers import Effort
    from fettle.bench.results import CaseResult, Row


def cpu(
    only: Annotated[str, typer.Option(help="Groups, of gemv,gemm,dense,softmax,attention; all without it.")] = "",
    shapes: ShapesOption = "A,B,C,D,E",
    threads: ThreadsOption = "1",
    trials: TrialsOption = 32,
    rounds: RoundsOption = 9,
    metaschedule: Annotated[
        bool, typer.Option("--metaschedule", help="f32 matmul: also MetaSchedule, for as many trials and as long.")
    ] = False,
    ggml: Annotated[bool, typer.Option("--ggml", help="Quantised products: also ggml, of llama-cpp-python.")] = False,
    seed: SeedOption = 0,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """The CPU kernels beside onnxruntime and torch, each line with the ratio it must reach.

    Ratios are ours / the fastest peer, timed alternately in this process, hot; below 1 we are faster.
    Ctrl-C stops early and reports what was timed; the exit code is then 130.

    Example: fettle bench cpu --only gemv,softmax --shapes A,D --threads 1,2
    """
    from fettle.bench.goals import GROUPS, goals

    groups = _choices("--only", only, GROUPS) if only else list(GROUPS)
    chosen = goals(groups, _shapes(shapes))
    _run("cpu", chosen, threads, trials, rounds, seed, force, store, json, metaschedule=metaschedule, ggml=ggml)


def gemv(
    shapes: ShapesOption = "A",
    formats: Annotated[str, typer.Option(help="Weight formats.")] = "u4:128,u2:128,tern:128",
    threads: ThreadsOption = "1",
    trials: TrialsOption = 32,
    rounds: RoundsOption = 9,
    seed: SeedOption = 0,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Quantised matrix-vector products of any format, as in `fettle bench cpu --only gemv` but without targets.

    Example: fettle bench gemv --shapes A,D --formats u4:32:zp,u3:row --threads 1,2
    """
    from fettle.bench.goals import gemv as goal

    names = _shapes(shapes)
    chosen = [goal(weight, names) for weight in formats.split(",")]
    _run("gemv", chosen, threads, trials, rounds, seed, force, store, json)


def _run(
    name: str,
    goals: Sequence[Goal],
    threads: str,
    trials: int,
    rounds: int,
    seed: int,
    force: bool,
    store: str | None,
    json: bool,
    *,
    metaschedule: bool = False,
    ggml: bool = False,
) -> None:
    from fettle.backends.cpu.crowding import fixed
    from fettle.backends.registry import resolve_device
    from fettle.bench.cpu import Bench, device_text, tune_all
    from fettle.bench.peers import versions
    from fettle.store.open import open_store

    counts = _counts(threads)
    devices = {count: resolve_device(device_text(count))[1] for count in counts}
    rows: list[Row] = []
    roofs = []
    interrupted = False
    try:
        with open_store(store) as opened, fixed():  # as the peers' thread counts are
            with JobProgress(stderr, "tuning") as progress:
                missing = tune_all(opened, goals, counts, trials=trials, seed=seed, force=force, on_event=progress.show)
            for count in counts:
                bench = Bench.on(opened, count, missing, seed, rounds)
                if metaschedule:
                    bench = bench.with_metaschedule()
                if ggml:
                    bench = bench.with_ggml()
                roofs += [attrs.asdict(roof) for roof in bench.profile.roofs if roof.threads == count]
                for goal in goals:
                    _time(bench, goal, rows)
    except KeyboardInterrupt:
        interrupted = True
    machine = devices[counts[0]].label
    if json:
        missed = [f"{row.name} threads={row.threads}" for row in rows if row.reached is False]
        found = {"roofs": roofs, "missed": missed, "rows": [attrs.asdict(row) for row in rows]}
        print_json({"bench": name, "device": machine, "peers": versions(), "interrupted": interrupted, **found})
    elif rows:
        for goal in goals:
            if timed := [row for row in rows if row.name == goal.name]:
                print_table(_details(goal.name, timed), folded=("who",))
        print_table(_verdicts(machine, rows), folded=("work",))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _time(bench: Bench, goal: Goal, rows: list[Row]) -> None:
    """Add a goal's row; of an interrupted goal, one of the cases before."""
    from fettle.bench.results import judge

    cases: list[CaseResult] = []
    try:
        for case in bench.cases(goal, lambda text: stderr.print(text, highlight=False)):
            cases.append(case)
    finally:
        if cases:
            rows.append(judge(goal, bench.threads, cases))


def _details(title: str, rows: Sequence[Row]) -> Table:
    """Every case of a goal with every rival."""
    table = Table(title=title, title_justify="left")
    for heading in ("shape", "threads", "who", "time", "ours / it", "of roof", "bits/weight", "error"):
        table.add_column(heading, justify="left" if heading in ("shape", "who") else "right")
    for row in rows:
        for case in row.cases:
            _case(table, row.threads, case)
    return table


def _case(table: Table, threads: int, case: CaseResult) -> None:
    share = f"{_percent(case.of_roof)} {case.roof}" if case.of_roof is not None else "–"
    note = f"fettle: {case.missing}" if case.missing else Text.assemble(("fettle", "bold"), _spent(case.effort))
    table.add_row(
        case.label,
        str(threads),
        note,
        seconds(case.seconds),
        "",
        share,
        _number(case.bits_per_weight, ".3f"),
        _number(case.normalised_error, ".1e"),
    )
    for peer in case.peers:
        table.add_row(
            case.label,
            str(threads),
            f"{peer.name}: {peer.missing}" if peer.missing else f"{peer.name}{_spent(peer.effort)}",
            seconds(peer.seconds),
            _number(peer.ratio, ".2f"),
            "",
            _number(peer.bits_per_weight, ".3f"),
            _number(peer.normalised_error, ".1e"),
        )
    table.add_section()


def _spent(effort: Effort | None) -> str:
    return f", {effort.trials} trials in {effort.seconds:.0f} s" if effort else ""


def _verdicts(machine: str, rows: Sequence[Row]) -> Table:
    """One line per goal and thread count."""
    table = Table(title=f"Goals on {machine}: geometric means of ours / fastest peer", title_justify="left")
    for heading in ("work", "threads", "ratio", "must reach", "goal", "verdict", "least of roof", "must reach"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for row in rows:
        table.add_row(
            row.name,
            str(row.threads),
            _number(row.ratio, ".2f"),
            _number(row.target, ".2f", "≤ "),
            _number(row.hope, ".2f", "≤ "),
            _unjudged(row) if row.reached is None else Text("pass", "green") if row.reached else Text("miss", "red"),
            _percent(row.of_roof),
            f"≥ {_percent(row.of_roof_target)}" if row.of_roof_target is not None else "–",
        )
    return table


def _unjudged(row: Row) -> str:
    return "–" if row.target is None else "incomplete"


def _number(value: float | None, form: str, prefix: str = "") -> str:
    return "–" if value is None else f"{prefix}{value:{form}}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _shapes(text: str) -> list[str]:
    from fettle.bench.goals import SHAPES

    return _choices("--shapes", text, tuple(SHAPES))


def _choices(option: str, text: str, known: Sequence[str]) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise InvalidArgument(f"{option} knows no {name!r}", hint=f"choose of {','.join(known)}")
    return names


def _counts(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InvalidArgument(f"malformed --threads {text!r}", hint="example: --threads 1,2")
    return [int(part) for part in parts]
