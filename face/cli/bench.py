"""``fettle bench``: a command a benchmark."""

from __future__ import annotations

import typer

from fettle.cli.benches import (
    agenda,
    compiling,
    cpu,
    decoding,
    defaults,
    fronts,
    gpu,
    lottery,
    predictions,
    proxy,
    quick,
    scheduling,
    search,
)

app = typer.Typer(help="Benchmarks against peers.", no_args_is_help=True)
app.command(name="cpu")(cpu.cpu)
app.command(name="gemv")(cpu.gemv)
app.command(name="search")(search.search)
app.command(name="lottery")(lottery.lottery)
app.command(name="fronts")(fronts.fronts)
app.command(name="quick")(quick.quick)
app.command(name="schedule")(scheduling.schedule)
app.command(name="gpu")(gpu.gpu)
app.command(name="compile")(compiling.compile_candidates)
app.command(name="decoding")(decoding.decoding)
app.command(name="proxy")(proxy.proxy)
app.command()(agenda.agenda)
app.command()(defaults.defaults)
app.command()(predictions.predictions)
