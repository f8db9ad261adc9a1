"""``fettle bench gpu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.benches.options import RoundsOption
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, print_table, seconds, stderr
from fettle.graph.errors import InvalidArgument

if TYPE_CHECKING:
    from fettle.bench.gpu import GpuRow


def gpu(
    device: Annotated[str, typer.Option("--device", help="The GPU.")] = "triton:0",
    only: Annotated[str, typer.Option(help="Workloads that contain this text; all without it.")] = "",
    rounds: RoundsOption = 9,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """The Triton kernels beside those of others on a GPU that is here; ours from the cache, else untuned.

    Peers are torch, and humming-kernels, gemlite, torchao and liger-kernel where they are installed. Errors are shares
    of the tolerance.

    Example: fettle bench gpu --json
    """
    from fettle.bench.gpu import WORKLOADS, bench_gpu
    from fettle.store.open import open_store

    workloads = [text for text in WORKLOADS if only in text]
    if not workloads:
        raise InvalidArgument(f"--only {only!r} fits no workload", hint="; ".join(WORKLOADS))
    rows: list[GpuRow] = []

    def on_row(row: GpuRow) -> None:
        rows.append(row)
        stderr.print(_line(row), highlight=False)

    try:
        with open_store(store) as opened:
            bench_gpu(opened, device, workloads, rounds, on_row)
    finally:  # what was measured before an interruption is not lost
        if rows:
            _show(device, rows, json)


def _show(device: str, rows: Sequence[GpuRow], json: bool) -> None:
    if json:
        print_json({"device": device, "rows": [attrs.asdict(row) for row in rows]})
        return
    table = Table()
    for heading in ("workload", "kernel", "time", "ratio", "error", "bound"):
        table.add_column(heading, justify="left" if heading in ("workload", "kernel") else "right")
    for row in rows:
        table.add_row(row.workload, "ours, tuned" if row.tuned else "ours, default", seconds(row.seconds), row.reason,
                      _error(row.error_ratio), seconds(row.bound_s))  # fmt: skip
        for peer in row.peers:
            ratio = peer.reason or _ratio(row.seconds, peer.seconds)
            table.add_row(row.workload, peer.name, seconds(peer.seconds), ratio, _error(peer.error_ratio), "")
    print_table(table, folded=("workload", "ratio"))


def _line(row: GpuRow) -> str:
    """A row as one line of progress."""
    peers = (f"{p.name} {seconds(p.seconds)} ({_ratio(row.seconds, p.seconds)})" for p in row.peers)
    return f"{row.workload}: {', '.join((seconds(row.seconds), *peers))}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "–" if ours is None or theirs is None else f"{ours / theirs:.2f}"


def _error(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"
