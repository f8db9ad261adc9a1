"""``fettle codesign``: which hardware would be worth building for some workloads."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer
from rich.table import Table

from fettle.cli.options import JsonOption
from fettle.cli.output import joules, print_json, print_table, seconds
from fettle.cli.simulate import parse_workload
from fettle.graph.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from fettle.search.codesign.front import Design


def codesign(
    workloads: Annotated[list[str], typer.Argument(help="Workload texts; each counts once.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="Designs to try.")] = 200,
    device: Annotated[
        str, typer.Option("--device", help="What to design: npu:systolic or pim:gddr6-aim.")
    ] = "npu:systolic",
    fixed: Annotated[str, typer.Option("--fix", help="Parameters that are given: bandwidth=64,mesh=1x1.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Everything random follows from it.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Save all designs and the front as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the front: a file ending in .svg or .png.")] = None,
    json: JsonOption = False,
) -> None:
    """Search the parameters of a device and print the Pareto front in time, area and energy.

    Of a systolic device: array shape, scratchpads, bandwidth, vector unit and mesh. Of a memory that computes:
    channels, banks, multiply-accumulate lanes of a bank and bytes of a channel's buffer.

    Example: fettle codesign "matmul m=512 n=512 k=512 act=i8 weight=i8" --trials 200 --fix bandwidth=64 --plot f.svg
    """
    from fettle.search.codesign.front import front, search
    from fettle.search.codesign.spaces import design_space

    space = design_space(device)
    parsed = [parse_workload(w, space.backend) for w in workloads]
    designs = search(parsed, trials, space=space, fixed=_fixed(fixed, tuple(space.choices)), seed=seed)
    best = front(designs)
    result = {
        "workloads": workloads,
        "tried": len(designs),
        "front": [attrs.asdict(d) for d in best],
    }
    if out is not None:
        _write(out, jsonlib.dumps({**result, "designs": [attrs.asdict(d) for d in designs]}, indent=1))
    if plot is not None:
        _plot(plot, designs, best)
    if json:
        print_json(result)
        return
    title = f"{len(best)} of {len(designs)} designs are beaten by none in time, area and energy together"
    table = Table("device", "time", "area (proxy)", "energy", title=title)
    for design in best:
        table.add_row(design.device, seconds(design.seconds), f"{design.mm2:.3g} mm²", joules(design.joules))
    print_table(table, folded=("device",))


def _fixed(text: str, known: tuple[str, ...]) -> dict[str, int | str]:
    values: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known or name in values or not value:
            raise InvalidArgument(f"malformed --fix {part!r}", hint=f"parameters: {' '.join(known)}")
        values[name] = int(value) if value.isascii() and value.isdigit() else value
    return values


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from None


def _plot(path: Path, designs: list[Design], best: list[Design]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Unsupported("--plot needs matplotlib", hint="pip install 'fettle-tuner[plot]'") from None
    if path.suffix not in (".svg", ".png"):
        raise InvalidArgument(f"--plot {path} ends in neither .svg nor .png")
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter([d.mm2 for d in designs], [1e6 * d.seconds for d in designs], s=8, c="0.75", label="tried")
    points = axes.scatter(
        [d.mm2 for d in best], [1e6 * d.seconds for d in best], s=24, c=[1e3 * d.joules for d in best]
    )
    figure.colorbar(points, label="energy of the front, mJ")
    axes.set(xlabel="area proxy, mm²", ylabel="time, µs", xscale="log", yscale="log")
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from None
