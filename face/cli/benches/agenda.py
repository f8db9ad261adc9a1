"""``fettle bench agenda``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli.output import seconds, stderr, stdout
from fettle.graph.errors import InvalidArgument


def agenda(
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, for `fettle gpu-measure --in`.")],
    device: Annotated[str, typer.Option("--device", help="Compile target that stands for the GPU.")] = "triton:sm_90",
    only: Annotated[str, typer.Option(help="Workloads that contain this text; all without it.")] = "",
) -> None:
    """What nobody has measured on a GPU yet, as a shortlist, the most hoped for first. No GPU is needed.

    Each workload's default is compared with schedules that are predicted, but not known, to be faster.

    Example: fettle bench agenda -o agenda.json
    """
    from fettle.backends.host.executor import make_executor
    from fettle.backends.registry import resolve_device
    from fettle.bench.agenda import QUESTIONS
    from fettle.bench.agenda import agenda as agenda_of

    questions = [question for question in QUESTIONS if only in question.workload]
    if not questions:
        raise InvalidArgument(f"--only {only!r} fits no workload", hint="; ".join(q.workload for q in QUESTIONS))
    backend, target = resolve_device(device)
    with make_executor(backend, target) as executor:
        found = agenda_of(
            backend,
            executor,
            questions,
            lambda entry: stderr.print(
                f"{entry.workload}: {', '.join(map(seconds, entry.predicted_s))} predicted", highlight=False
            ),
        )
    found.write(output)
    count = sum(len(entry.schedules) for entry in found.entries)
    stdout.print(f"{count} candidates of {len(found.entries)} workloads written to {output}", highlight=False)
