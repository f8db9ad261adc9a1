"""A workload's finals: the fastest valid trials and the default, with their artifacts, play them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.backends.api import Artifact, Basis, MeasurePolicy, Record, Schedule
from fettle.backends.host.executor import Session
from fettle.search import finals
from fettle.search.finals import CHALLENGERS, Finalist, Verdict
from fettle.search.trials import is_valid, undisturbed_seconds


class Finalists:
    """The finalists among a growing list of trials. Their artifacts are kept, so that few are built a second time."""

    def __init__(self, default: Schedule, policy: MeasurePolicy) -> None:
        self._default = default
        self._policy = policy
        self._artifacts: dict[str, Artifact] = {}

    def among(self, records: Sequence[Record]) -> list[Record]:
        """The default's record if it is valid, and those of the fastest others."""
        valid = sorted((r for r in records if is_valid(r)), key=undisturbed_seconds)
        default = [r for r in valid if r.candidate.schedule == self._default]
        others = [r for r in valid if r.candidate.schedule != self._default]
        return default + others[:CHALLENGERS]

    def keep(self, artifact: Artifact, record: Record, records: Sequence[Record]) -> None:
        """Keep the artifact of the trial ``record``, then let go of all that are no finalists among ``records``."""
        self._artifacts[record.candidate.key] = artifact
        wanted = {r.candidate.key for r in self.among(records)}
        self._artifacts = {key: kept for key, kept in self._artifacts.items() if key in wanted}

    def seconds(self, records: Sequence[Record], setup: float) -> float:
        """About how long :meth:`play` would take: its rounds, and ``setup`` seconds for each finalist."""
        measured = [r.measurement for r in self.among(records)]
        if any(m.basis is not Basis.MEASURED for m in measured):  # figures that are looked up or computed
            return len(measured) * setup
        medians = [m.time for m in measured]
        rounds = finals.rounds_for(self._policy, medians)
        return rounds * finals.round_seconds(self._policy, medians) + len(medians) * setup

    def play(
        self, session: Session, records: Sequence[Record], has_time: bool, may_repeat: Callable[[], bool]
    ) -> Verdict | None:
        """The finals among ``records``, interleaved; None if no trial was valid or none could be measured again.

        Args:
            has_time: else there is one bout of few rounds, and a finalist without rivals is taken as it was tried.
            may_repeat: asked before an undecided bout is repeated.
        """
        default, challengers = self._ready(session, records)
        players = [default, *challengers] if default else challengers
        measured = [f.record.measurement for f in players]
        if len(players) == 1 and not has_time:  # nobody to compare it with
            return finals.judge(players, measured, default is not None)
        rounds = finals.rounds_for(self._policy, [m.time for m in measured], short=not has_time)
        return finals.play(session, default, challengers, rounds, may_repeat)

    def _ready(self, session: Session, records: Sequence[Record]) -> tuple[Finalist | None, list[Finalist]]:
        """The default and its challengers among ``records``; what is missing is built, who cannot be built is out."""
        chosen = self.among(records)
        missing = [r for r in chosen if r.candidate.key not in self._artifacts]
        for record, build in zip(missing, session.build([r.candidate for r in missing]), strict=True):
            if build.artifact is not None:
                self._artifacts[record.candidate.key] = build.artifact
        built = [(r, self._artifacts[r.candidate.key]) for r in chosen if r.candidate.key in self._artifacts]
        finalists = [Finalist(record, artifact) for record, artifact in built]
        default = next((f for f in finalists if f.record.candidate.schedule == self._default), None)
        return default, [f for f in finalists if f is not default]
