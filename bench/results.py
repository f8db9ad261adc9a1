"""What a benchmark found, and whether it meets the goals. Times in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from fettle.backends.api import Value
from fettle.bench.goals import Goal
from fettle.bench.metrics import geometric_mean
from fettle.bench.peers import Effort


@attrs.frozen
class PeerTime:
    """One rival of a case.

    Attributes:
        seconds: median; None if it was not timed.
        ratio: ours / this one, median of neighbouring pairs; None if it was only screened, being far slower.
        normalised_error: mean squared error over mean squared result, against the dequantised reference.
        bits_per_weight: stored bits, scales included.
        missing: why it was not timed.
        effort: what its search spent, if a search found it.
    """

    name: str
    seconds: float | None = None
    ratio: float | None = None
    normalised_error: float | None = None
    bits_per_weight: float | None = None
    missing: str = ""
    effort: Effort | None = None


@attrs.frozen
class CaseResult:
    """One workload on some threads.

    Attributes:
        seconds: our median; None if there is no kernel, for which ``missing`` says why.
        peer, ratio: the fastest rival of the run, and ours / it; None without rivals.
        roof, roof_seconds, of_roof: the roof measured in this run, the time it allows, and its share of ours.
        normalised_error, bits_per_weight: as of a rival.
        effort: what tuning ours spent; None if the store no longer tells.
    """

    label: str
    workload: str
    seconds: float | None = None
    peer: str | None = None
    ratio: float | None = None
    roof: str | None = None
    roof_seconds: float | None = None
    of_roof: float | None = None
    normalised_error: float | None = None
    bits_per_weight: float | None = None
    schedule: Mapping[str, Value] | None = None
    peers: tuple[PeerTime, ...] = ()
    missing: str = ""
    effort: Effort | None = None


@attrs.frozen
class Row:
    """One goal on some threads.

    Attributes:
        ratio: geometric mean over the cases that have one; None if none has.
        reached: the ratio meets the target; None if a case has no ratio or nothing is asked.
        of_roof: the least share of the roof among the cases.
        roof_reached: every case meets ``of_roof_target``; None if a case was not timed or nothing is asked.
    """

    name: str
    group: str
    threads: int
    ratio: float | None
    target: float | None
    hope: float | None
    reached: bool | None
    of_roof: float | None
    of_roof_target: float | None
    roof_reached: bool | None
    cases: tuple[CaseResult, ...]


def judge(goal: Goal, threads: int, cases: Sequence[CaseResult]) -> Row:
    """A goal's verdict, none where some of its cases were not timed."""
    ratios = [case.ratio for case in cases if case.ratio is not None]
    shares = [case.of_roof for case in cases if case.of_roof is not None]
    ratio = geometric_mean(ratios) if ratios else None
    share = min(shares, default=None)
    reached = roof_reached = None
    if goal.target is not None and ratio is not None and len(ratios) == len(goal.cases):
        reached = ratio <= goal.target
    if goal.of_roof is not None and share is not None and len(shares) == len(goal.cases):
        roof_reached = share >= goal.of_roof
    return Row(
        goal.name,
        goal.group,
        threads,
        ratio,
        goal.target,
        goal.hope,
        reached,
        share,
        goal.of_roof,
        roof_reached,
        tuple(cases),
    )
