"""The commands: where each is, and what a list says of it."""

from __future__ import annotations

from collections.abc import Mapping

from fettle.cli.lazy import Home

HOMES: Mapping[str, Home] = {
    "tune": Home(
        "fettle.cli.tune:tune",
        "Tune a model or one operator; the winners go to the cache.",
    ),
    "lookup": Home(
        "fettle.cli.lookup:lookup",
        "Find the cached kernel for a workload; a miss says which field differs. Exits with 3 on a miss.",
    ),
    "run": Home(
        "fettle.cli.run:run",
        "Run a model with the cached kernels (defaults where nothing is cached), check every output, and time a pass.",
    ),
    "serve": Home(
        "fettle.cli.serve:serve",
        "Serve tuning and lookups over gRPC. Prints `listening HOST:PORT` once ready.",
    ),
    "replay": Home(
        "fettle.cli.replay:replay",
        "Tune on a recorded space. Invalid configurations cost an evaluation, as on the hardware.",
    ),
    "simulate": Home(
        "fettle.cli.simulate:simulate",
        "Cycles, commands, traffic and energy of a workload on a simulated device.",
    ),
    "plan": Home(
        "fettle.cli.plan:plan",
        "Find offsets in one memory for buffers with lifetimes. Exits with 1, and the lowest peak found, if none fit.",
    ),
    "gpu-measure": Home(
        "fettle.cli.gpu:gpu_measure",
        "Measure a shortlist on a GPU that is here. Exits with 0 when all is measured, 3 while there is more to do.",
    ),
    "place": Home(
        "fettle.cli.place:place",
        "Place operators by operations per byte, greedily and exactly, and say what each costs.",
    ),
    "buckets": Home(
        "fettle.cli.buckets:buckets",
        "Find the fewest schedules that serve all lengths within a loss, and which serves which length.",
    ),
    "codesign": Home(
        "fettle.cli.codesign:codesign",
        "Search the parameters of a device and print the Pareto front in time, area and energy.",
    ),
    "devices": Home(
        "fettle.cli.devices:devices",
        "List devices with their identity; with --profile also their measured roofs.",
    ),
    "backends": Home(
        "fettle.cli.devices:backends",
        "List the installed backends (plugins of the entry-point group `fettle.backends`).",
    ),
    "jobs": Home(
        "fettle.cli.jobs:app",
        "List, show, watch, cancel, resume and export jobs; write shortlists.",
    ),
    "cache": Home(
        "fettle.cli.cache:app",
        "List, count, verify, prune, export and import what the cache holds; read GPU kernels' machine code.",
    ),
    "db": Home(
        "fettle.cli.db:app",
        "Maintain the database.",
    ),
    "bench": Home(
        "fettle.cli.bench:app",
        "Benchmarks against peers.",
    ),
    "costmodel": Home(
        "fettle.cli.costmodel:app",
        "Judge how well times are predicted; record spaces for that.",
    ),
}
