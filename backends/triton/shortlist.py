"""What a job for a compile target hands to a machine that has the GPU: the candidates worth measuring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from fettle.backends.api import Record, Schedule
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument, NotFound
from fettle.graph.workload import Workload

VERSION = 1


@attrs.frozen
class Entry:
    """Candidates of one workload, the default first, then by rising prediction."""

    workload: str
    schedules: tuple[Schedule, ...]
    predicted_s: tuple[float, ...]


@attrs.frozen
class Shortlist:
    """Candidates of the workloads of one job.

    Attributes:
        target: the device they were compiled and predicted for, as text.
    """

    target: str
    entries: tuple[Entry, ...]
    version: int = VERSION

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(codec.to_data(self), indent=1) + "\n")

    @classmethod
    def joined(cls, lists: Sequence[Shortlist]) -> Shortlist:
        """All workloads of some shortlists in the order given, each once, with all its candidates.

        Raises:
            InvalidArgument: they are for different targets, so that their predictions say nothing about each other.
        """
        targets = dict.fromkeys(one.target for one in lists)
        if len(targets) > 1:
            raise InvalidArgument(
                f"shortlists for {' and '.join(targets)}", hint="measure those for each target in a call of its own"
            )
        entries: dict[str, dict[Schedule, float]] = {}
        for entry in (entry for one in lists for entry in one.entries):
            known = entries.setdefault(entry.workload, {})
            for schedule, seconds in zip(entry.schedules, entry.predicted_s, strict=True):
                known.setdefault(schedule, seconds)
        return cls(
            lists[0].target, tuple(Entry(w, tuple(known), tuple(known.values())) for w, known in entries.items())
        )

    @classmethod
    def read(cls, path: Path) -> Shortlist:
        """The shortlist in a file.

        Raises:
            NotFound: there is no such file.
            InvalidArgument: it is no shortlist, or of a version not known here.
        """
        try:
            data: Any = json.loads(path.read_text())
        except OSError as error:
            raise NotFound(f"no shortlist can be read from {path}: {error}") from None
        except ValueError as error:
            raise InvalidArgument(f"{path} is not JSON: {error}") from None
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise InvalidArgument(f"{path} is no shortlist of version {VERSION}")
        found = codec.from_data(cls, data)
        for entry in found.entries:
            Workload.parse(entry.workload)
        return found


def entry_of(workload: Workload, records: Sequence[Record], default: Schedule, top: int) -> Entry | None:
    """The default and the ``top`` best others of a workload's trials; None if none of them could be predicted."""
    usable = sorted((r for r in records if r.measurement.ok), key=lambda r: r.measurement.time)
    first = [r for r in usable if r.candidate.schedule == default]
    chosen = first + [r for r in usable if r.candidate.schedule != default][:top]
    if not chosen:
        return None
    return Entry(str(workload), tuple(r.candidate.schedule for r in chosen), tuple(r.measurement.time for r in chosen))
