"""Measures a shortlist on a GPU, in slices.

    python -m fettle.backends.triton.campaign --minutes 8 --in FILE [--in FILE …] --out DIR

Needs Python, NumPy, attrs, cattrs, ml_dtypes, Triton and cuda-bindings, nothing else of fettle than this folder and the
rooms below it; no network, no torch. Every trial is appended to ``DIR/trials.jsonl`` as soon as it is made, so a slice
may be cut off anywhere, and the next one goes on after it. When all candidates of a workload have been tried, the best
and the default are measured again, interleaved, and ``DIR/finals.jsonl`` says so. Artifacts of finalists lie in
``DIR/artifacts`` under their SHA-256. ``fettle cache import DIR`` reads all that. ``DIR/recordings`` has each finished
workload as a FAIR T4 file, which ``--device replay:FILE`` reads.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from fettle.backends.api import (
    Artifact,
    Backend,
    Device,
    DeviceText,
    MeasurePolicy,
    Record,
)
from fettle.backends.host.executor import BuildResult, Executor, Session, make_executor
from fettle.backends.host.trials import tried
from fettle.backends.replay.files import write_document
from fettle.backends.replay.t4 import t4_document
from fettle.backends.triton.ahead import Task, prepared
from fettle.backends.triton.backend import TritonBackend, target_of
from fettle.backends.triton.predict import Prediction, predict
from fettle.backends.triton.program import Program
from fettle.backends.triton.results import (
    FINALS,
    RECORDINGS,
    TRIALS,
    Final,
    Machine,
    append,
    keep,
    mend,
    read_finals,
    read_machine,
    read_trials,
    write_machine,
)
from fettle.backends.triton.shortlist import Shortlist
from fettle.graph.errors import FettleError, InvalidArgument
from fettle.graph.workload import Workload

CHALLENGERS = 3
ROUNDS = 15


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
            mend(self._folder / name)
        deadline = self._clock() + seconds
        made = 0
        with self._executor(self._backend, self._device) as executor:
            profile = self._settle_device(executor).profile
            with contextlib.closing(prepared(self._backend, executor, self._policy, self._todo(shortlist))) as tasks:
                for task, session, builds in tasks:
                    bound = self._backend.bound(task.workload, self._device, profile).seconds
                    for record, build in builds:
                        if made and self._clock() >= deadline:
                            return False
                        done = record if build is None else self._evaluate(session, record, build, bound)
                        task.records.append(done)
                        append(self._folder / TRIALS, done)
                        made += 1
                        say(f"{task.workload}: {_described(done)}")
                    if made and self._clock() >= deadline:
                        return False
                    artifacts = {r.candidate.key: b.artifact for r, b in builds if b is not None}
                    self._final(session, task.workload, task.records, artifacts)
                    self._record(task.workload, task.records)
                    made += 1
        return True

    def _todo(self, shortlist: Shortlist) -> list[Task]:
        """What no slice has finished yet."""
        records = read_trials(self._folder)
        finished = {str(final.records[0].candidate.workload) for final in read_finals(self._folder)}
        tasks = []
        for entry in shortlist.entries:
            workload = Workload.parse(entry.workload)
            if str(workload) not in finished:
                known = [r for r in records if r.candidate.workload == workload]
                tasks.append(Task(workload, entry, known))
        return tasks

    def _settle_device(self, executor: Executor) -> Machine:
        """The GPU, measured by the first slice."""
        found = read_machine(self._folder)
        if found is None:
            found = Machine(self._device, executor.profile())
            write_machine(self._folder, found)
        if found.device != self._device:
            raise InvalidArgument(
                f"{self._folder} has results of {found.device.label}; this is {self._device.label}",
                hint="give another folder with --out",
            )
        return found

    def _evaluate(self, session: Session, record: Record, built: BuildResult, bound: float) -> Record:
        begun = self._clock()
        done = tried(session, record, built)
        done = attrs.evolve(done, seconds=built.seconds + self._clock() - begun)
        if built.artifact is None:
            return done
        expected = predict(Program.of(built.artifact), target_of(self._device))
        return attrs.evolve(
            done,
            predicted=math.log(expected.seconds / bound) if isinstance(expected, Prediction) else None,
            features=tuple(self._backend.features(record.candidate, built.artifact).items()),
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
        finalists = [attrs.evolve(r, artifact_sha256=keep(self._folder, artifact)) for r, artifact in pairs]
        append(self._folder / FINALS, Final(tuple(finalists), tuple(measurements)))

    def _record(self, workload: Workload, records: Sequence[Record]) -> None:
        folder = self._folder / RECORDINGS
        folder.mkdir(exist_ok=True)
        document = t4_document(records, created=time.time(), device_name=self._device.label)
        write_document(folder / f"{workload.operator}-{workload.key[:12]}.json.gz", document)


def _described(record: Record) -> str:
    m = record.measurement
    return f"{m.time * 1e6:.2f} µs" if m.ok else f"{m.outcome.value}: {m.message[:120]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all measured. 3: there is more to do; call again. 1: nothing can be measured."""
    parser = argparse.ArgumentParser(prog="fettle gpu-measure", description="Measure a shortlist on a GPU.")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--in", dest="shortlists", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="triton:0")
    parser.add_argument("--hot", action="store_true", help="leave weights in the cache between calls")
    given = parser.parse_args(arguments)
    try:
        shortlist = Shortlist.joined([Shortlist.read(path) for path in given.shortlists])
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
