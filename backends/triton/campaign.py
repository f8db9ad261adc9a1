"""Measures a shortlist on a GPU, in slices.

    python -m fettle.backends.triton.campaign --minutes 8 --in FILE --out DIR

Needs Python, NumPy, attrs, cattrs, ml_dtypes, Triton and cuda-bindings, nothing else of fettle than this folder and the
rooms below it; no network, no torch. Every trial is appended to ``DIR/trials.jsonl`` as soon as it is made, so a slice
may be cut off anywhere, and the next one goes on after it. When all candidates of a workload have been tried, the best
and the default are measured again, interleaved, and ``DIR/finals.jsonl`` says so. Artifacts of finalists lie in
``DIR/artifacts`` under their SHA-256. ``fettle cache import DIR`` reads all that. ``DIR/recordings`` has each finished
workload as a FAIR T4 file, which ``--device replay:FILE`` reads.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from fettle.backends.api import (
    Artifact,
    Backend,
    Candidate,
    Device,
    DeviceText,
    Measurement,
    MeasurePolicy,
    Outcome,
    Profile,
    Record,
)
from fettle.backends.host.executor import BuildResult, Executor, Session, make_executor
from fettle.backends.replay.files import write_document
from fettle.backends.replay.t4 import t4_document
from fettle.backends.spaces import why_invalid
from fettle.backends.triton.backend import TritonBackend, target_of
from fettle.backends.triton.predict import Prediction, predict
from fettle.backends.triton.program import Program
from fettle.backends.triton.shortlist import Entry, Shortlist
from fettle.graph import codec
from fettle.graph.errors import FettleError, InvalidArgument
from fettle.graph.workload import Workload

TRIALS, FINALS, DEVICE = "trials.jsonl", "finals.jsonl", "device.json"
ARTIFACTS, RECORDINGS = "artifacts", "recordings"

CHALLENGERS = 3
ROUNDS = 15


@attrs.frozen
class Final:
    """Interleaved measurements of the default (first, if it is valid) and the best others of one workload."""

    records: tuple[Record, ...]
    measurements: tuple[Measurement, ...]


@attrs.frozen
class Machine:
    """The GPU and its measured roofs, as the campaign found them."""

    device: Device
    profile: Profile


@attrs.frozen
class _Task:
    """One workload's candidates, and the trials made of them so far."""

    workload: Workload
    entry: Entry
    records: list[Record]


class Campaign:
    """One slice of measuring.

    Args:
        folder: where results of this and earlier slices are.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        backend: Backend,
        device: Device,
        folder: Path,
        policy: MeasurePolicy,
        *,
        executor: Callable[[Backend, Device], Executor] = make_executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._device = device
        self._folder = folder
        self._policy = policy
        self._executor = executor
        self._clock = clock

    def run(self, shortlist: Shortlist, seconds: float, say: Callable[[str], None]) -> bool:
        """Measure for about so long; whether everything is done. At least one trial is made.

        Raises:
            InvalidArgument: the folder holds results of another GPU.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in (TRIALS, FINALS):
            _mend(self._folder / name)
        deadline = self._clock() + seconds
        made = 0
        with ThreadPoolExecutor(1) as ahead, self._executor(self._backend, self._device) as executor:
            profile = self._settle_device(executor).profile
            todo = self._todo(shortlist)
            coming = ahead.submit(self._prepare, executor, todo[0]) if todo else None
            for number, task in enumerate(todo):
                assert coming is not None
                session, builds = coming.result()
                bound = self._backend.bound(task.workload, self._device, profile).seconds
                with session:
                    if number + 1 < len(todo):  # compiled while this one is measured
                        coming = ahead.submit(self._prepare, executor, todo[number + 1])
                    for record, build in builds:
                        if made and self._clock() >= deadline:
                            return False
                        done = record if build is None else self._evaluate(session, record, build, bound)
                        task.records.append(done)
                        self._append(TRIALS, done)
                        made += 1
                        say(f"{task.workload}: {_described(done)}")
                    if made and self._clock() >= deadline:
                        return False
                    artifacts = {r.candidate.key: b.artifact for r, b in builds if b is not None}
                    self._final(session, task.workload, task.records, artifacts)
                    self._record(task.workload, task.records)
                    made += 1
        return True

    def _todo(self, shortlist: Shortlist) -> list[_Task]:
        """What no slice has finished yet."""
        records = read_trials(self._folder)
        finished = {str(final.records[0].candidate.workload) for final in read_finals(self._folder)}
        tasks = []
        for entry in shortlist.entries:
            workload = Workload.parse(entry.workload)
            if str(workload) not in finished:
                known = [r for r in records if r.candidate.workload == workload]
                tasks.append(_Task(workload, entry, known))
        return tasks

    def _prepare(self, executor: Executor, task: _Task) -> tuple[Session, list[tuple[Record, BuildResult | None]]]:
        """Open a session and compile what is left to try, side by side; None for what is not in the space."""
        session = executor.open(task.workload, self._policy, seed=0)
        known = {r.candidate.key for r in task.records}
        space = self._backend.space(task.workload, self._device)
        records = []
        for candidate in self._candidates(task.workload, task.entry):
            if candidate.key not in known:
                record = Record(candidate, Measurement(Outcome.OK), self._policy, space_version=space.version)
                if (why := why_invalid(space, candidate.schedule)) is not None:
                    record = attrs.evolve(record, measurement=Measurement.failure(Outcome.INVALID, why))
                records.append(record)
        builds = {b.candidate.key: b for b in session.build([r.candidate for r in records if r.measurement.ok])}
        return session, [(record, builds.get(record.candidate.key)) for record in records]

    def _settle_device(self, executor: Executor) -> Machine:
        """The GPU, measured by the first slice."""
        path = self._folder / DEVICE
        if path.exists():
            found = codec.from_data(Machine, json.loads(path.read_text()))
            if found.device != self._device:
                raise InvalidArgument(
                    f"{self._folder} has results of {found.device.label}; this is {self._device.label}"
                )
            return found
        machine = Machine(self._device, executor.profile())
        path.write_text(json.dumps(codec.to_data(machine), indent=1) + "\n")
        return machine

    def _candidates(self, workload: Workload, entry: Entry) -> Iterator[Candidate]:
        default = self._backend.default(workload, self._device)
        for schedule in dict.fromkeys((default, *entry.schedules)):
            yield Candidate(workload, self._device, schedule)

    def _evaluate(self, session: Session, record: Record, built: BuildResult, bound: float) -> Record:
        if built.artifact is None:
            failure = built.failure or Measurement.failure(Outcome.COMPILE_ERROR, "the build gave no artifact")
            return attrs.evolve(record, measurement=failure, seconds=built.seconds)
        trial = session.evaluate(record.candidate, built.artifact)
        expected = predict(Program.of(built.artifact), target_of(self._device))
        return attrs.evolve(
            record,
            measurement=trial.measurement,
            verified=trial.verified,
            max_error=trial.max_error,
            error_ratio=trial.error_ratio,
            artifact_sha256=built.artifact.sha256,
            toolchain=built.artifact.toolchain,
            predicted=math.log(expected.seconds / bound) if isinstance(expected, Prediction) else None,
            features=tuple(self._backend.features(record.candidate, built.artifact).items()),
            seconds=built.seconds + trial.seconds,
        )

    def _final(
        self,
        session: Session,
        workload: Workload,
        records: Sequence[Record],
        artifacts: Mapping[str, Artifact | None],
    ) -> None:
        """Compare the default and the best; what an earlier slice compiled is compiled again."""
        default = self._backend.default(workload, self._device)
        valid = sorted((r for r in records if r.verified and r.measurement.ok), key=lambda r: r.measurement.time)
        first = [r for r in valid if r.candidate.schedule == default]
        chosen = first + [r for r in valid if r.candidate.schedule != default][:CHALLENGERS]
        again = session.build([r.candidate for r in chosen if artifacts.get(r.candidate.key) is None])
        artifacts = {**artifacts, **{b.candidate.key: b.artifact for b in again}}
        pairs = [(r, artifact) for r in chosen if (artifact := artifacts[r.candidate.key]) is not None]
        if not pairs:
            return
        measurements = session.compare([artifact for _, artifact in pairs], ROUNDS)
        finalists = [attrs.evolve(r, artifact_sha256=self._keep(artifact)) for r, artifact in pairs]
        self._append(FINALS, Final(tuple(finalists), tuple(measurements)))

    def _record(self, workload: Workload, records: Sequence[Record]) -> None:
        folder = self._folder / RECORDINGS
        folder.mkdir(exist_ok=True)
        document = t4_document(records, created=time.time(), device_name=self._device.label)
        write_document(folder / f"{workload.operator}-{workload.key[:12]}.json.gz", document)

    def _keep(self, artifact: Artifact) -> str:
        folder = self._folder / ARTIFACTS
        folder.mkdir(exist_ok=True)
        (folder / artifact.sha256).write_bytes(codec.dumps(artifact))
        return artifact.sha256

    def _append(self, name: str, value: object) -> None:
        with (self._folder / name).open("a") as file:
            file.write(json.dumps(codec.to_data(value)) + "\n")


def read_trials(folder: Path) -> list[Record]:
    """Trials of all slices so far. Raises InvalidArgument."""
    return [codec.from_data(Record, data) for data in _lines(folder / TRIALS)]


def read_finals(folder: Path) -> list[Final]:
    """Finals of all slices so far. Raises InvalidArgument."""
    return [codec.from_data(Final, data) for data in _lines(folder / FINALS)]


def _mend(path: Path) -> None:
    """Take away a last line that was cut off, so that what is appended does not go on with it."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _lines(path: Path) -> Iterator[object]:
    """The values of a file; its last line may have been cut off in the middle and is then left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines) or line.endswith(b"\n"):
                raise InvalidArgument(f"{path}, line {number}: not JSON") from None


def _described(record: Record) -> str:
    m = record.measurement
    return f"{m.time * 1e6:.2f} µs" if m.ok else f"{m.outcome.value}: {m.message[:120]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured. 3: there is more to do; call again. 1: nothing can be measured."""
    parser = argparse.ArgumentParser(prog="fettle gpu-measure", description="Measure a shortlist on a GPU.")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--in", dest="shortlist", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="triton:0")
    parser.add_argument("--hot", action="store_true", help="leave weights in the cache between calls")
    given = parser.parse_args(arguments)
    try:
        shortlist = Shortlist.read(given.shortlist)
        backend = TritonBackend()
        device = backend.device(DeviceText.parse(given.device))
        policy = MeasurePolicy(mode="hot" if given.hot else "cold", timeout=60.0)
        done = Campaign(backend, device, given.out, policy).run(
            shortlist, 60.0 * given.minutes, lambda text: print(text, flush=True)
        )
    except FettleError as error:
        print(f"gpu-measure: {error}", file=sys.stderr)
        return 1
    return 0 if done else 3


if __name__ == "__main__":
    sys.exit(main())
