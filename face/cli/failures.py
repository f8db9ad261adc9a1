"""Why trials of a job failed: failures that are alike are told once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from fettle.backends.api import Record

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


@attrs.frozen
class Failure:
    """Trials of one workload that failed alike: messages differ in numbers at most.

    Attributes:
        count: how many.
        first: the first of them.
    """

    count: int
    first: Record

    @property
    def message(self) -> str:
        """What the first one said, without what follows its first line."""
        return self.first.measurement.message.split("\n", 1)[0]

    def line(self) -> str:
        """For people."""
        candidate = self.first.candidate
        outcome = self.first.measurement.outcome.value
        return f"{self.count} × {outcome} of {candidate.workload}: {self.message} ({candidate.schedule})"

    def json(self) -> dict[str, Any]:
        """What ``fettle jobs show --json`` prints."""
        return {
            "count": self.count,
            "workload": str(self.first.candidate.workload),
            "outcome": self.first.measurement.outcome.value,
            "message": self.first.measurement.message,
            "schedule": self.first.candidate.schedule.as_dict(),
        }


def failures(records: Iterable[Record]) -> list[Failure]:
    """The failed ones among trials, the most frequent kind first."""
    kinds: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if not record.measurement.ok:
            m = record.measurement
            kind = (record.candidate.workload.key, m.outcome.value, _NUMBER.sub("#", m.message.split("\n", 1)[0]))
            kinds.setdefault(kind, []).append(record)
    return sorted((Failure(len(alike), alike[0]) for alike in kinds.values()), key=lambda f: -f.count)
