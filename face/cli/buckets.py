"""``fettle buckets``: few schedules for many lengths."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fettle.backends.registry import resolve_device
from fettle.cli.options import DeviceOption, JsonOption
from fettle.cli.output import print_json, print_table
from fettle.cli.simulate import parse_workload
from fettle.graph.errors import InvalidArgument
from fettle.search.buckets import length_buckets

_MOST_LENGTHS = 256


def buckets(
    workload: Annotated[str, typer.Argument(help="A workload text; its value of --field does not matter.")],
    lengths: Annotated[str, typer.Option("--lengths", help="Comma-separated: 1,128,2048.")],
    device: DeviceOption = "npu:systolic",
    field: Annotated[str, typer.Option("--field", help="What takes these lengths: m, kv, rows …")] = "m",
    loss: Annotated[float, typer.Option("--loss", help="0.05: up to 5 % slower than the best tried.", min=0.0)] = 0.05,
    samples: Annotated[int, typer.Option("--samples", help="Random schedules of each length.", min=0)] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Everything random follows from it.")] = 0,
    json: JsonOption = False,
) -> None:
    """Find the fewest schedules that serve all lengths within a loss, and which serves which length.

    A simulated device is asked about every schedule; on another, they are verified and measured.

    Example: fettle buckets "matmul m=1 n=1024 k=1024 act=i8 weight=i8" --lengths 1,16,64,256,1024 --loss 0.1
    """
    backend, resolved = resolve_device(device)
    wanted = _numbers(lengths)
    parsed = parse_workload(workload, resolved.backend, resolved.preset)
    found = length_buckets(backend, resolved, parsed, field, wanted, loss=loss, samples=samples, seed=seed)
    if json:
        rows = [{"lengths": b.lengths, "loss": b.loss, "schedule": b.schedule.as_dict()} for b in found]
        print_json({"device": str(resolved), "workload": workload, "field": field, "loss": loss, "buckets": rows})
        return
    table = Table(field, "loss", "schedule", title=f"{len(wanted)} lengths, {len(found)} schedules")
    for bucket in found:
        table.add_row(" ".join(map(str, bucket.lengths)), f"{100 * bucket.loss:.1f} %", str(bucket.schedule))
    print_table(table, folded=(field, "schedule"))


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(p.isascii() and p.isdigit() and 1 <= int(p[:10]) <= 1 << 30 for p in parts):
        raise InvalidArgument(f"malformed --lengths {text[:80]!r}", hint="write --lengths 1,128,2048")
    if len(parts) > _MOST_LENGTHS:
        raise InvalidArgument(f"{len(parts)} lengths are more than {_MOST_LENGTHS}")
    return sorted({int(p) for p in parts})
