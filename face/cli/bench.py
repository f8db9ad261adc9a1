"""``fettle bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, seconds, stderr, stdout
from fettle.cli.progress import JobProgress
from fettle.graph.errors import InvalidArgument

if TYPE_CHECKING:
    from fettle.bench.goals import Goal
    from fettle.bench.results import CaseResult, Row

app = typer.Typer(help="Benchmarks against peers.", no_args_is_help=True)

ShapesOption = Annotated[str, typer.Option(help="Shapes N x K of the quantised products, of A,B,C,D,E.")]
ThreadsOption = Annotated[str, typer.Option(help="Thread counts.")]
TrialsOption = Annotated[int, typer.Option(min=1, help="Trials per workload that the cache has no kernel for.")]
RoundsOption = Annotated[int, typer.Option(min=1, help="How often every rival is timed.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the search and of the data.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Tune again what the cache has.")]


@app.callback()
def _bench() -> None:
    pass


@app.command()
def gpu(
    device: Annotated[str, typer.Option("--device", help="The GPU.")] = "triton:0",
    only: Annotated[str, typer.Option(help="Workloads that contain this text; all without it.")] = "",
    rounds: RoundsOption = 9,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """The Triton kernels beside torch's on a GPU that is here; ours from the cache, else untuned.

    Example: fettle bench gpu --json
    """
    from fettle.bench.gpu import WORKLOADS, bench_gpu
    from fettle.store.open import open_store

    workloads = [text for text in WORKLOADS if only in text]
    if not workloads:
        raise InvalidArgument(f"--only {only!r} fits no workload", hint="; ".join(WORKLOADS))
    with open_store(store) as opened:
        rows = bench_gpu(opened, device, workloads, rounds, lambda row: stderr.print(row.workload, highlight=False))
    if json:
        print_json({"device": device, "rows": [attrs.asdict(row) for row in rows]})
        return
    table = Table()
    for heading in ("workload", "kernel", "time", "ratio", "bound"):
        table.add_column(heading, justify="left" if heading in ("workload", "kernel") else "right")
    for row in rows:
        table.add_row(row.workload, "tuned" if row.tuned else "default", seconds(row.seconds), row.reason,
                      seconds(row.bound_s))  # fmt: skip
        for peer in row.peers:
            ratio = "–" if row.seconds is None else f"{row.seconds / peer.seconds:.2f}"
            table.add_row("", peer.name, seconds(peer.seconds), ratio, "")
    stdout.print(table)


@app.command(name="compile")
def compile_candidates(
    device: Annotated[str, typer.Option("--device", help="A compile target.")] = "triton:sm_90",
    each: Annotated[int, typer.Option(min=1, help="Candidates of each workload.")] = 20,
    only: Annotated[str, typer.Option(help="Workloads that contain this text; all without it.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds one build may take.")] = 60.0,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Compile candidates of every kernel family for a GPU that need not be there: counts, times, failures by kind.

    Example: fettle bench compile --device triton:sm_90 --each 20
    """
    import time

    from fettle.bench.compiling import WORKLOADS, compile_all

    workloads = [text for text in WORKLOADS if only in text]
    if not workloads:
        raise InvalidArgument(f"--only {only!r} fits no workload", hint="; ".join(WORKLOADS))
    begun = time.monotonic()
    rows = compile_all(
        device, workloads, each, seed, timeout,
        lambda row: stderr.print(f"{row.built}/{row.tried} built: {row.workload}", highlight=False),
    )  # fmt: skip
    total = time.monotonic() - begun
    if json:
        print_json({"device": device, "seconds": total, "rows": [attrs.asdict(row) for row in rows]})
        return
    table = Table(title=f"{device}: {sum(r.built for r in rows)} of {sum(r.tried for r in rows)} in {total:.0f} s")
    for heading in ("workload", "built", "spilling", "failures", "median", "slowest"):
        table.add_column(heading, justify="left" if heading == "workload" else "right")
    for row in rows:
        failures = ", ".join(f"{count} {outcome}" for outcome, count in row.failures) or "–"
        built = f"{row.built}/{row.tried}"
        table.add_row(row.workload, built, str(row.spilling), failures, seconds(row.median_s), seconds(row.slowest_s))
    stdout.print(table)


@app.command()
def decoding(
    devices: Annotated[str, typer.Option("--devices", help="As of fettle place.")] = "pim:gddr6-aim,channels=8",
    context: Annotated[int, typer.Option("--context", min=1, help="Tokens seen before.")] = 512,
    json: JsonOption = False,
) -> None:
    """A token of PIM-GPT's eight decoders on simulated devices, beside rooflines of a CPU and a GPU and its own ranges.

    Example: fettle bench decoding --devices pim:gddr6-aim,channels=8 --json
    """
    from fettle.bench.decoding import decoding_table, paper_ranges
    from fettle.search.placement.costs import parse_places

    rows = decoding_table(parse_places(devices), context)
    if json:
        print_json(
            {"devices": devices, "context": context, "rows": [attrs.asdict(r) for r in rows], "paper": paper_ranges()}
        )
        return
    names = [b.name for b in rows[0].baselines]
    table = Table("decoder", "token", "energy", *(f"over {n}: time, energy" for n in names), title=devices)
    for row in rows:
        ratios = [f"{b.speedup:.1f}x, {b.energy_ratio:.0f}x" for b in row.baselines]
        energy = "–" if row.joules is None else f"{1e3 * row.joules:.3g} mJ"
        table.add_row(row.decoder, seconds(row.seconds), energy, *ratios)
    stdout.print(table)
    stdout.print(f"PIM-GPT over its measured T4 and Xeon: {paper_ranges()}")


@app.command()
def cpu(
    only: Annotated[str, typer.Option(help="Groups, of gemv,gemm,dense,softmax,attention; all without it.")] = "",
    shapes: ShapesOption = "A,B,C,D,E",
    threads: ThreadsOption = "1",
    trials: TrialsOption = 32,
    rounds: RoundsOption = 9,
    metaschedule: Annotated[
        bool, typer.Option("--metaschedule", help="f32 matmul: also MetaSchedule, as many trials.")
    ] = False,
    ggml: Annotated[bool, typer.Option("--ggml", help="Quantised products: also ggml, of llama-cpp-python.")] = False,
    seed: SeedOption = 0,
    force: ForceOption = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """The CPU kernels beside onnxruntime and torch, each line with the ratio it must reach.

    Ratios are ours / the fastest peer, timed alternately in this process, hot; below 1 we are faster.

    Example: fettle bench cpu --only gemv,softmax --shapes A,D --threads 1,2
    """
    from fettle.bench.goals import GROUPS, goals

    groups = _choices("--only", only, GROUPS) if only else list(GROUPS)
    chosen = goals(groups, _shapes(shapes))
    _run("cpu", chosen, threads, trials, rounds, seed, force, store, json, metaschedule=metaschedule, ggml=ggml)


@app.command()
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
    from fettle.backends.registry import resolve_device
    from fettle.bench.cpu import Bench, device_text, tune_all
    from fettle.bench.peers import versions
    from fettle.store.open import open_store

    counts = _counts(threads)
    devices = {count: resolve_device(device_text(count))[1] for count in counts}
    rows: list[Row] = []
    roofs = []
    with open_store(store) as opened:
        with JobProgress(stderr, "tuning") as progress:
            missing = tune_all(opened, goals, counts, trials=trials, seed=seed, force=force, on_event=progress.show)
        for count in counts:
            bench = Bench.on(opened, count, missing, seed, rounds)
            if metaschedule:
                bench = bench.with_metaschedule(trials)
            if ggml:
                bench = bench.with_ggml()
            roofs += [attrs.asdict(roof) for roof in bench.profile.roofs if roof.threads == count]
            for goal in goals:
                rows.append(bench.goal(goal, lambda text: stderr.print(text, highlight=False)))
    machine = devices[counts[0]].label
    if json:
        print_json(
            {
                "bench": name,
                "device": machine,
                "peers": versions(),
                "roofs": roofs,
                "missed": [f"{r.name} threads={r.threads}" for r in rows if r.reached is False],
                "rows": [attrs.asdict(row) for row in rows],
            }
        )
        return
    for goal in goals:
        stdout.print(_details(goal.name, [row for row in rows if row.name == goal.name]))
    stdout.print(_verdicts(machine, rows))


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
    note = f"fettle: {case.missing}" if case.missing else "[bold]fettle[/bold]"
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
            "",
            "",
            f"{peer.name}: {peer.missing}" if peer.missing else peer.name,
            seconds(peer.seconds),
            _number(peer.ratio, ".2f"),
            "",
            _number(peer.bits_per_weight, ".3f"),
            _number(peer.normalised_error, ".1e"),
        )


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
            {True: "[green]pass[/green]", False: "[red]miss[/red]", None: _unjudged(row)}[row.reached],
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


@app.command()
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
    report = compare(_recordings(files), searchers, seeds, lambda text: stderr.print(text, highlight=False))
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


def _recordings(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, and the recordings in folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = [*path.rglob("*.json"), *path.rglob("*.json.gz")] if path.is_dir() else [path]
        if not inside:
            raise InvalidArgument(f"{path} has no recordings", hint="*.json or *.json.gz")
        found += sorted(inside)
    return found
