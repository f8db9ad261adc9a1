"""``fettle bench proxy``."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer

from fettle.backends.registry import resolve_device
from fettle.cli.options import DeviceOption, JsonOption
from fettle.cli.output import print_json, seconds, stdout
from fettle.graph.workload import Workload

_GEMV = "matmul m=1 n=4096 k=4096 act=bf16 weight=bf16"


def proxy(
    workload: Annotated[str, typer.Argument(help="A workload text.")] = _GEMV,
    device: DeviceOption = "pim:gddr6-aim",
    shown: Annotated[int, typer.Option("--shown", min=8, help="Schedules it learns from.")] = 60,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the schedules shown.")] = 0,
    json: JsonOption = False,
) -> None:
    """A learned stand-in for a simulator: its error on schedules it was not shown, and its speed.

    Example: fettle bench proxy --device pim:gddr6-aim --shown 60
    """
    from fettle.bench.proxy import bench_proxy

    backend, resolved = resolve_device(device)
    row = bench_proxy(backend, Workload.parse(workload), resolved, shown, seed)
    if json:
        print_json({"device": str(resolved), "workload": workload, **attrs.asdict(row), "speedup": row.speedup})
        return
    stdout.print(
        f"{workload} on {resolved}: learned from {row.shown} schedules in {seconds(row.learning_s)}\n"
        f"{row.held_out} others: mean error {100 * row.mean_error:.2f} %, largest {100 * row.max_error:.1f} %\n"
        f"a prediction takes {seconds(row.predicted_s)}, a simulation of this device by fettle "
        f"{seconds(row.simulated_s)}: {row.speedup:.0f} times less"
    )
