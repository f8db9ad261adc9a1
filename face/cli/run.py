"""``fettle run``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fettle.cli.options import DeviceOption, DimOption, JsonOption, StoreOption, parse_dims
from fettle.cli.output import DONE, FAILED, print_json, print_table, seconds, stderr, stdout


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="The model; missing weights are made up.")],
    device: DeviceOption = "cpu",
    dim: DimOption = None,
    seed: Annotated[int, typer.Option(help="Inputs and made-up weights follow from it.")] = 0,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run a model with the cached kernels (defaults where nothing is cached), check every output, and time a pass.

    Products share the preparation of their activations where `fettle tune --share-activations` found that faster.
    A cached kernel that is damaged or lost is named, and the untuned one runs in its place. Compared with onnx's
    reference evaluator and, where it is installed, with onnxruntime. Exits with 1 when an output is off. From Python,
    `fettle.load` gives the same model as an object to call.

    Example: fettle run examples/decoder_layer.onnx --device cpu
    """
    from fettle.modelrun import run_model

    report = run_model(model, device, parse_dims(dim), seed, store)
    for row in report["lost"]:
        stderr.print(f"lost: {row['workload']} runs untuned: {row['problem']}", soft_wrap=True)
    if json:
        print_json(report)
    else:
        _print(report)
    raise typer.Exit(DONE if report["ok"] else FAILED)


def _print(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['model']} on {report['device']}", title_justify="left")
    for heading in ("node", "kernel", "workload"):
        table.add_column(heading)
    for node in report["nodes"]:
        table.add_row(node["name"], node["kernel"], node["workload"] or node["reason"])
    print_table(table, folded=("node", "workload"))
    errors = Table()
    for heading in ("output", "compared with", "max error", "normalised RMS error", "limit", "ok"):
        errors.add_column(heading, justify="right")
    for row in report["outputs"]:
        errors.add_row(
            row["output"],
            row["peer"],
            f"{row['max_error']:.2e}",
            f"{row['nrmse']:.2e}",
            f"{row['limit']:.0e}",
            "yes" if row["ok"] else Text("no", "red"),
        )
    print_table(errors, folded=("output",))
    for peer, reason in report["missing_peers"].items():
        stdout.print(f"{peer}: {reason}", highlight=False)
    arena = report["arena"]
    stdout.print(
        f"{arena['tensors']} tensors between nodes lie in {arena['peak_bytes']:,} B, "
        f"{arena['sum_bytes']:,} B if each had memory of its own",
        highlight=False,
    )
    times = report["seconds"]
    text = ", ".join(f"{name} {seconds(value)}" for name, value in times.items())
    ratios = [
        f"{value / times['fettle']:.2f} times {name}'s speed" for name, value in times.items() if name != "fettle"
    ]
    stdout.print(f"one pass: {text}{''.join(f': {ratio}' for ratio in ratios)}", highlight=False)
