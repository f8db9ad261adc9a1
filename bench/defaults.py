"""How untuned defaults fare among what was recorded on a GPU: rules against trials."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import attrs

from fettle.backends.triton.backend import TritonBackend
from fettle.bench.predictions import TRIALS, todays_schedule, verified_trials


@attrs.frozen
class DefaultRow:
    """One workload.

    Attributes:
        trials: recorded, of all folders together.
        best_s: the fastest, in seconds, which ``folder`` has.
        default_s: today's default; None if nobody has measured it.
    """

    workload: str
    trials: int
    best_s: float
    folder: str
    default_s: float | None

    @property
    def share(self) -> float | None:
        """The best time as a share of the default's."""
        return None if self.default_s is None else self.best_s / self.default_s


def bench_defaults(folders: list[Path]) -> tuple[DefaultRow, ...]:
    """Each recorded workload's default beside the best that was found; kernels are as they were then.

    Raises:
        NotFound: a folder has no trials.
        InvalidArgument: they are malformed.
    """
    backend = TritonBackend()
    found: dict[str, list[tuple[float, str, bool]]] = defaultdict(list)
    for folder in folders:
        for record in verified_trials(folder / TRIALS):
            candidate = record.candidate
            default = backend.default(candidate.workload, candidate.device)
            same = todays_schedule(backend, record) == default
            found[str(candidate.workload)].append((record.measurement.time, folder.name, same))
    rows = []
    for workload, trials in sorted(found.items()):
        best_s, folder_name, _ = min(trials)
        default_s = min((seconds for seconds, _, same in trials if same), default=None)
        rows.append(DefaultRow(workload, len(trials), best_s, folder_name, default_s))
    return tuple(rows)
