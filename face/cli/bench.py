"""``fettle bench``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, seconds, stderr, stdout
from fettle.graph.errors import InvalidArgument

app = typer.Typer(help="Benchmarks against peers.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    pass


@app.command()
def gemv(
    shapes: Annotated[str, typer.Option(help="Shapes, of A,B,C,D,E.")] = "A",
    formats: Annotated[str, typer.Option(help="Weight formats.")] = "u4:128,u2:128,tern:128",
    threads: Annotated[str, typer.Option(help="Thread counts.")] = "1",
    trials: Annotated[int, typer.Option(help="Trials to tune with where the cache has no kernel.")] = 32,
    seed: Annotated[int, typer.Option()] = 0,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Quantised GEMV beside onnxruntime's MatMulNBits (accuracy level 4) and the read roof.

    Example: fettle bench gemv --shapes A,D --formats u4:128 --threads 1,2
    """
    from fettle.bench.gemv import SHAPES, run
    from fettle.store.open import open_store

    names = shapes.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        raise InvalidArgument(f"unknown shape {unknown[0]!r}", hint=f"shapes: {','.join(SHAPES)}")
    if not all(t.isdigit() and int(t) > 0 for t in threads.split(",")):
        raise InvalidArgument(f"malformed --threads {threads!r}", hint="example: --threads 1,2")
    counts = [int(t) for t in threads.split(",")]
    with open_store(store) as opened:
        rows = run(opened, names, formats.split(","), counts, trials, seed, lambda s: stderr.print(s, highlight=False))
    if json:
        print_json({"bench": "gemv", "rows": rows})
        return
    table = Table(title=f"GEMV on {rows[0]['device']}", title_justify="left")
    for heading in (
        "shape",
        "format",
        "bits/weight",
        "threads",
        "onnxruntime",
        "ours",
        "ratio",
        "roof",
        "of roof",
        "nmse",
    ):
        table.add_column(heading, justify="right")
    for r in rows:
        table.add_row(
            f"{r['shape']} {r['n']}x{r['k']}",
            r["format"],
            f"{r['bits_per_weight']:.3f}",
            str(r["threads"]),
            seconds(r["peer_s"]),
            seconds(r["ours_s"]),
            f"{r['ratio']:.2f}" if r["ratio"] else "–",
            f"{seconds(r['roof_s'])} {r['roof']}",
            f"{100 * r['roof_s'] / r['ours_s']:.0f} %" if r["roof_s"] else "–",
            f"{r['nmse']:.1e}",
        )
    stdout.print(table)
