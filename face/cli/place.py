"""``fettle place``: which device runs which operator of a model or decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from fettle.cli.options import DimOption, JsonOption, parse_dims
from fettle.cli.output import joules, print_json, print_table, seconds, stdout
from fettle.graph.errors import InvalidArgument
from fettle.search.placement import assign
from fettle.search.placement.costs import CostTable, Link, Place, parse_places
from fettle.search.placement.interleave import Interleaving, interleaving
from fettle.search.placement.work import DECODER, Work, decode, decoders, from_graph, machines, parse_decoder

EVERY = "decoders"
"""Stands for every known decoder."""


def place(
    graph: Annotated[
        str, typer.Argument(help="MODEL.onnx, `decoder:NAME[,batch=B][,context=C]`, or `decoders` for all of them.")
    ],
    devices: Annotated[
        str, typer.Option("--devices", help="Comma-separated; `cpu`, `gpu`, `gpu-eager` are rooflines of machines.")
    ],
    link_bandwidth: Annotated[float, typer.Option("--link", help="Between devices, GB/s.", min=1e-3)] = 64.0,
    link_latency: Annotated[float, typer.Option("--link-latency", help="Of a transfer, µs.", min=0.0)] = 1.0,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="A decoder's batch on two devices, in turns and in two sub-batches.")
    ] = False,
    batch: Annotated[str, typer.Option("--batches", help="Of `decoders` and --interleave, comma-separated.")] = "",
    context: Annotated[int, typer.Option("--context", help="Of `decoders` and --interleave.", min=1)] = 1024,
    dim: DimOption = None,
    json: JsonOption = False,
) -> None:
    """Place operators by operations per byte, greedily and exactly, and say what each costs.

    Examples:

    - fettle place decoder:gpt2-xl,batch=16 --devices npu:systolic,bandwidth=1024,pim:neupims

    - fettle place decoder:llama2-7b --interleave --batches 64,512 --context 256
      --devices npu:systolic,mesh=2x4,bandwidth=1024,pim:neupims
    """
    places = parse_places(devices)
    default = Link.default()
    link = Link(1e9 * link_bandwidth, 1e-6 * link_latency, default.joules_per_byte)
    if interleave:
        _interleave(graph.removeprefix(DECODER), places, _sizes(batch or "64,128,256,512"), context, json)
        return
    reports = [_report(CostTable.ask(work, places, link)) for work in _works(graph, batch, context, parse_dims(dim))]
    if json:
        print_json({"devices": [p.name for p in places], "graphs": reports})
        return
    for report in reports:
        _print(report, [p.name for p in places])


def _interleave(name: str, places: Sequence[Place], batches: Sequence[int], context: int, json: bool) -> None:
    if name not in decoders() or len(places) != 2:
        raise InvalidArgument(
            "--interleave takes decoder:NAME and two devices, the processor first",
            hint=f"--batches and --context say the rest; decoders: {' '.join(decoders())}",
        )
    rows = [interleaving(decoders()[name], size, context, places[0], places[1]) for size in batches]
    _print_interleaving(name, context, rows, json)


def _works(graph: str, batches: str, context: int, dims: dict[str, int]) -> list[Work]:
    if graph == EVERY:
        return [
            decode(f"{DECODER}{name},batch={size},context={context}", shape, size, context)
            for name, shape in decoders().items()
            for size in _sizes(batches or "1,16")
        ]
    if graph.startswith(DECODER):
        return [parse_decoder(graph)]
    from fettle.graph.onnx_import import import_model

    return [from_graph(import_model(Path(graph), dims).graph)]


def _sizes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(p.isascii() and p.isdigit() and 1 <= int(p[:8]) <= 1 << 16 for p in parts):
        raise InvalidArgument(f"malformed --batches {text!r}", hint="write --batches 64,128,256")
    return [int(p) for p in parts]


def _report(table: CostTable) -> dict[str, Any]:
    ways = {"rule": assign.by_intensity(table), "greedy": assign.greedy(table), "exact": assign.exact(table)}
    names = [p.name for p in table.places]
    least = table.total(ways["exact"])
    return {
        "graph": table.work.name,
        "operators": [
            {
                "name": operator.name,
                "workload": str(operator.workload),
                "count": operator.count,
                "ops_per_byte": operator.intensity,
                "seconds": {n: c.seconds if c else None for n, c in zip(names, row, strict=True)},
                **{way: names[chosen[number]] for way, chosen in ways.items()},
            }
            for number, (operator, row) in enumerate(zip(table.work.operators, table.costs, strict=True))
        ],
        "totals": {
            way: {
                "seconds": table.total(chosen),
                "energy_j": table.joules(chosen),
                "over_exact": table.total(chosen) / least,
            }
            for way, chosen in ways.items()
        },
    }


def _print(report: dict[str, Any], names: list[str]) -> None:
    title = f"{report['graph']}: time on each device, and which one each way of placing chooses"
    numbers = [f"on {number}" for number in range(1, len(names) + 1)]
    table = Table("operator", "×", "op/byte", *numbers, *report["totals"], title=title, title_justify="left")
    for row in report["operators"]:
        times = [seconds(row["seconds"][name]) for name in names]
        places = [str(names.index(row[way]) + 1) for way in report["totals"]]
        table.add_row(row["name"], str(row["count"]), f"{row['ops_per_byte']:.2f}", *times, *places)
    print_table(table, folded=("operator",))
    for number, name in enumerate(names, 1):
        stdout.print(f"{number}: {name}", highlight=False)
    for way, total in report["totals"].items():
        costs = f"{seconds(total['seconds'])}, {joules(total['energy_j'])}, {total['over_exact']:.3f} of exact"
        stdout.print(f"{way}: {costs}", highlight=False)


def _print_interleaving(decoder: str, context: int, rows: Sequence[Interleaving], json: bool) -> None:
    paper = machines()["papers"]["NeuPIMs"]["over_naive"]
    found: list[dict[str, Any]] = [
        {
            "batch": row.batch,
            "processor_only_s": row.processor_only,
            "naive_s": row.naive,
            "two_halves_s": row.two_halves,
            "interleaved_s": row.interleaved,
            "gain": row.gain,
            "paper_gain": paper,
        }
        for row in rows
    ]
    if json:
        print_json({"decoder": decoder, "context": context, "interleaving": found})
        return
    headings = ("batch", "processor only", "naive", "two halves", "interleaved", "gain", "paper")
    table = Table(*headings, title=f"{decoder}, context {context}", title_justify="left")
    for row in found:
        table.add_row(*(seconds(value) if name.endswith("_s") else f"{value:.3g}" for name, value in row.items()))
    print_table(table)
