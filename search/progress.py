"""What one run of a job leaves behind: its events, results and trials, in the store and before the caller's eyes."""

from __future__ import annotations

from collections.abc import Callable

from fettle.backends.api import Record
from fettle.graph import codec
from fettle.search.journal import Journal
from fettle.search.scheduler import Scheduler
from fettle.search.trials import is_valid
from fettle.search.tuner import WorkloadTuner
from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult


class Progress:
    """Writes down what happens to a job. All methods may raise StoreUnavailable and StoreFull.

    Args:
        clock: seconds, monotonic.
        on_event: called with each event once it is stored, in the thread that calls these methods.
    """

    def __init__(
        self, store: Store, job: Job, clock: Callable[[], float], on_event: Callable[[JobEvent], None] | None
    ) -> None:
        self._store = store
        self._job = job
        self._on_event = on_event
        self._journal = Journal(store, job.id, clock, self._show)
        self.finished = {result.workload.key: result for result in job.results}
        """Results by workload key, those of earlier runs among them."""

    def state(self, state: JobState, error: str = "") -> None:
        """The job is in a state from now on."""
        self._event("state", {"state": state.value, "error": error})

    def phase(self, phase: str, workload: str = "") -> None:
        """The run turns to something that takes a while."""
        self._event("phase", {"workload": workload, "phase": phase})

    def trial(self, tuner: WorkloadTuner, scheduler: Scheduler, record: Record) -> None:
        """A trial was made. It is written now or with the next ones: :meth:`flush` at the end of a turn."""
        event = {
            "workload": str(tuner.workload),
            "trial": tuner.trials,
            "trials": self._job.spec.budget.trials,
            "outcome": record.measurement.outcome.value,
            "seconds": record.measurement.time if is_valid(record) else None,
            "best_s": tuner.best_s,
            "failed": tuner.failed,
            "schedule": dict(record.candidate.schedule.as_dict()),
            "eta_s": scheduler.eta(),
            "done": scheduler.done,
            "total": scheduler.total,
        }
        self._journal.add(record, event)

    def flush(self) -> None:
        """Write the trials that wait."""
        self._journal.flush()

    def finish(self, result: WorkloadResult) -> None:
        """A workload has its result."""
        self._store.put_result(self._job.id, result)
        self.finished[result.workload.key] = result
        self._event("result", codec.to_data(result))

    def _event(self, kind: str, data: dict[str, object]) -> None:
        self._show(self._store.append_event(self._job.id, kind, data))

    def _show(self, event: JobEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
