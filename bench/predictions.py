"""How predictions of GPU kernels rank what was measured: recorded trials hold what a prediction needs of the code."""

from __future__ import annotations

import gzip
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np

from fettle.backends.api import Record, Schedule, Value
from fettle.backends.triton.assembly import Loop
from fettle.backends.triton.backend import TritonBackend, target_of
from fettle.backends.triton.compiler import Compiled
from fettle.backends.triton.plan import Launch, main_launch
from fettle.backends.triton.predict import Prediction, predict
from fettle.backends.triton.program import Kernel, Program
from fettle.backends.triton.resources import Resources
from fettle.backends.triton.targets import Target
from fettle.costmodel.metrics import spearman
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument, NotFound

TRIALS = "trials.jsonl.gz"
RECORDED = Path(__file__).parent / "results" / "h200"

_LOOP = "code_loop_"
_BEFORE: dict[str, dict[str, Value]] = {
    "lowbit": {"reduce": "launch", "settle": False, "overlap": False, "registers": 0},
    "attention": {"queries": "shared"},
}
"""What schedules of spaces that had no such parameter did."""
_PICKS = 3
_LEAST = 4
"""Trials that can be ranked."""
_SMALL = Resources(32, 0)
"""Of launches beside the main one, of which nothing is recorded."""


@attrs.frozen
class PredictionRow:
    """One workload of one folder.

    Attributes:
        spearman: rank correlation of predicted and measured times; 0 if all predictions are equal.
        error: the median of the logarithm of their ratio, without its sign.
        picks: the best time as a share of the best of the three that are predicted to be the fastest.
    """

    folder: str
    workload: str
    trials: int
    spearman: float
    error: float
    picks: float


def bench_predictions(folders: list[Path]) -> tuple[PredictionRow, ...]:
    """Predict every verified trial that campaigns recorded, of workloads of which there are at least four.

    Raises:
        NotFound: a folder has no trials.
        InvalidArgument: they are malformed.
    """
    backend = TritonBackend()
    rows = []
    for folder in folders:
        pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for record in verified_trials(folder / TRIALS):
            program = _program(backend, record)
            found = predict(program, target_of(record.candidate.device))
            if isinstance(found, Prediction):
                pairs[str(record.candidate.workload)].append((found.seconds, record.measurement.time))
        for workload, times in pairs.items():
            if len(times) < _LEAST:
                continue
            predicted, measured = np.array(times).T
            error = float(np.median(np.abs(np.log(predicted / measured))))
            rank = spearman(predicted, measured) or 0.0
            picks = float(measured.min() / measured[np.argsort(predicted, kind="stable")[:_PICKS]].min())
            rows.append(PredictionRow(folder.name, workload, len(times), rank, error, picks))
    return tuple(rows)


def mean_spearman(rows: list[PredictionRow]) -> float:
    """Of workloads, each counting the same."""
    return statistics.fmean(row.spearman for row in rows)


def verified_trials(path: Path) -> Iterator[Record]:
    """What a campaign measured of right kernels.

    Raises:
        NotFound: there is no such file.
        InvalidArgument: it is malformed.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
    except FileNotFoundError:
        raise NotFound(f"no recorded trials in {path.parent}", hint=f"a campaign's trials as {TRIALS}") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = codec.from_data(Record, json.loads(line))
        except ValueError:
            raise InvalidArgument(f"{path}, line {number}: not JSON") from None
        if record.verified and record.measurement.ok:
            yield record


def todays_schedule(backend: TritonBackend, record: Record) -> Schedule:
    """A trial's schedule with the parameters that spaces have got since."""
    family = backend.family(record.candidate.workload, record.candidate.device)
    return Schedule.of(**_BEFORE.get(family.name, {}) | record.candidate.schedule.as_dict())


def _program(backend: TritonBackend, record: Record) -> Program:
    """The launches of a trial with what its features say of the main one's machine code."""
    candidate, features = record.candidate, dict(record.features)
    family = backend.family(candidate.workload, candidate.device)
    target = target_of(candidate.device)
    plan = family.plan(candidate.workload, todays_schedule(backend, record), target)
    main = main_launch(plan.launches)
    kernels = tuple(
        Kernel(launch, _compiled(launch, target, features if launch is main else {})) for launch in plan.launches
    )
    return Program(target.name, kernels, plan.scratch)


def _compiled(launch: Launch, target: Target, features: dict[str, float]) -> Compiled:
    """The code's figures without the code."""
    counts = {name.removeprefix(_LOOP): int(count) for name, count in features.items() if name.startswith(_LOOP)}
    total = counts.pop("instructions", 0)
    resources = Resources(int(features["code_registers"]), int(features["code_spills"])) if features else _SMALL
    return Compiled(
        code=b"",
        name=launch.template,
        threads=target.warp * launch.warps,
        shared=int(features.get("code_shared", 0)),
        scratch=0,
        resources=resources,
        loop=Loop(total, tuple(counts.items())),
    )
