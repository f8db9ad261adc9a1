"""``fettle bench compile``."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import SeedOption
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, print_table, seconds, stderr
from fettle.graph.errors import InvalidArgument


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
        if row.unsupported:
            table.add_row(row.workload, "–", "–", row.unsupported, "–", "–")
            continue
        failures = ", ".join(f"{count} {outcome}" for outcome, count in row.failures) or "–"
        built = f"{row.built}/{row.tried}"
        table.add_row(row.workload, built, str(row.spilling), failures, seconds(row.median_s), seconds(row.slowest_s))
    print_table(table, folded=("workload", "failures"))
