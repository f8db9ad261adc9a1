"""``fettle replay``: tune on a recorded space, and compare with the best it holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer
from rich.table import Table

from fettle.backends.api import DeviceText
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.backend import OPERATOR
from fettle.backends.replay.files import read_recording
from fettle.cli.options import JsonOption
from fettle.cli.output import print_json, seconds, stdout
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.explore import Evaluation, explore, recorded_trials
from fettle.search.samplers import DEFAULT, SAMPLERS

if TYPE_CHECKING:
    from fettle.backends.replay.recording import Recording
    from fettle.costmodel.transfer import Trials

_MARKS = (10, 20, 50, 100, 200, 500, 1000)
"""Evaluations after which the table says how far the search has come."""


@attrs.frozen
class Report:
    """How a search on a recording went; times in the recording's unit.

    Attributes:
        evaluations: how many were made; fewer than asked for if the space has no more.
        best: the best found, None if nothing valid was.
        optimum: the best there is. The sampler never saw it.
        curve: the best after each evaluation; None before the first valid one.
    """

    sampler: str
    evaluations: int
    best: float | None
    optimum: float
    curve: tuple[float | None, ...]

    @property
    def ratio(self) -> float | None:
        """optimum / best."""
        return None if self.best is None else self.optimum / self.best

    @classmethod
    def of(cls, recording: Recording, sampler: str, evaluations: list[Evaluation]) -> Report:
        """Read off the recording what was found; point *i* of its space is row *i*."""
        best = math.inf
        curve: list[float | None] = []
        for evaluation in evaluations:
            objective = recording.rows[evaluation.point].objective
            best = min(best, math.inf if objective is None else objective)
            curve.append(None if best == math.inf else best)
        found = None if best == math.inf else best
        return cls(sampler, len(evaluations), found, recording.optimum, tuple(curve))

    def json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "sampler": self.sampler,
            "evaluations": self.evaluations,
            "best": self.best,
            "optimum": self.optimum,
            "ratio": self.ratio,
            "curve": list(self.curve),
        }

    def table(self, title: str, scale: float) -> Table:
        """The curve at a few marks, for people; ``scale``: seconds in one unit of the recording."""
        table = Table(title=title, title_justify="left")
        for heading in ("evaluations", "best", "of the optimum"):
            table.add_column(heading, justify="right")
        for mark in sorted({*(m for m in _MARKS if m < self.evaluations), self.evaluations} - {0}):
            best = self.curve[mark - 1]
            cells = ("–", "–") if best is None else (seconds(best * scale), f"{100 * self.optimum / best:.1f} %")
            table.add_row(str(mark), *cells)
        return table


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A FAIR T4 or Kernel Tuner cache file, gzip or plain.")],
    evaluations: Annotated[int, typer.Option("--evaluations", help="How many configurations to try.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Everything random follows from it.")] = 0,
    sampler: Annotated[str, typer.Option("--sampler", help=f"What proposes them: {', '.join(SAMPLERS)}.")] = DEFAULT,
    warm: Annotated[
        list[Path] | None,
        typer.Option("--warm", help="A recording of the same kernel elsewhere, all of it known. Repeatable."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Tune on a recorded space. Invalid configurations cost an evaluation, as on the hardware.

    Example: fettle replay bench/results/zen4/gemv/u4-4096x4096.json.gz --evaluations 100 --seed 0 --json

    Example: fettle replay bench/results/zen4/gemv/u4-4096x4096.json.gz --evaluations 20
    --warm bench/results/zen4/gemv/u2-11008x4096.json.gz
    """
    if evaluations < 1:
        raise InvalidArgument(f"--evaluations must be at least 1, not {evaluations}")
    backend = ReplayBackend()
    device = backend.device(DeviceText(backend.name, str(file)))
    recording = backend.recording(device)
    names = {p.name for p in recording.parameters}
    known = [known_elsewhere(path, names, "--warm", recording.digest) for path in warm or ()]
    found = explore(backend, Workload.of(OPERATOR), device, evaluations, seed=seed, sampler=sampler, known=known)
    report = Report.of(recording, sampler, found)
    if json:
        print_json(report.json())
        return
    stdout.print(report.table(f"{sampler} on {device.label}, {len(recording.rows)} configurations", recording.scale))


def known_elsewhere(path: Path, names: set[str], option: str, digest: str = "") -> Trials:
    """All rows of another recording, as trials made elsewhere.

    Args:
        names: of the parameters it must have.
        option: by which it was given.
        digest: of the recording that is searched.

    Raises:
        InvalidArgument: it has other parameters, or is the very recording that is searched.
        NotFound, ResourceExhausted: see :func:`fettle.backends.replay.files.read_recording`.
    """
    other = read_recording(path)
    if odd := {p.name for p in other.parameters} ^ names:
        raise InvalidArgument(
            f"{path} has other parameters: {' '.join(sorted(odd))[:200]}",
            hint=f"{option} takes recordings of the same kernel on other devices",
        )
    if other.digest == digest:
        raise InvalidArgument(f"{path} is the recording to be searched; it would be no search")
    return recorded_trials(other)
