"""``fettle bench decoding``."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption
from fettle.cli.output import joules, print_json, print_table, seconds, stdout


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
    title = f"{devices}: a token; times as fast, and as frugal, as others"
    table = Table("decoder", "time", "energy", *(f"over {n}" for n in names), title=title, title_justify="left")
    for row in rows:
        ratios = [f"{b.speedup:.1f}x, {b.energy_ratio:.0f}x" for b in row.baselines]
        table.add_row(row.decoder, seconds(row.seconds), joules(row.joules), *ratios)
    print_table(table, folded=("decoder",))
    paper = {name: f"{low}–{high}x" for name, (low, high) in paper_ranges().items()}
    stdout.print("cpu and gpu are rooflines, which no machine beats; gpu-eager adds 10 µs a kernel")
    for baseline, measured in (("cpu", "Xeon"), ("gpu", "T4")):
        time, energy = paper[f"{baseline}_speedup"], paper[f"{baseline}_energy"]
        stdout.print(f"PIM-GPT over its measured {measured}: {time} in time, {energy} in energy")
