"""``fettle bench gpu``."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import RoundsOption
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, seconds, stderr, stdout
from fettle.graph.errors import InvalidArgument


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
