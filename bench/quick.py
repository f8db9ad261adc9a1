"""What a quick search gives up: beside a long one, every kernel of a model timed in turns with the other's."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from fettle.backends.api import Artifact, Candidate, MeasurePolicy
from fettle.backends.host.executor import make_executor
from fettle.backends.registry import resolve_device
from fettle.bench.metrics import geometric_mean
from fettle.graph.errors import NotFound
from fettle.graph.workload import Workload
from fettle.search.jobs import run_job
from fettle.search.lite import FEW_TRIALS
from fettle.search.samplers import DEFAULT, SAMPLERS, SamplerFactory
from fettle.search.samplers.guided import GuidedSampler
from fettle.store.api import Store
from fettle.store.lookup import lookup
from fettle.store.open import open_store
from fettle.tuning import plan

AIM = 0.95
"""Share of the long search's speed that a quick one must reach."""


@attrs.frozen
class QuickRow:
    """One workload; times in seconds, medians over rounds.

    Attributes:
        long_trials, quick_trials: how many were made.
        long_wall, quick_wall: seconds the searches took, finals included.
        default_s, long_s, quick_s: of the untuned kernel and of each search's winner.
        share: long / quick, median over rounds of neighbouring samples: 1 is as good, above is better.
        same: both chose the same schedule.
    """

    workload: str
    long_trials: int
    quick_trials: int
    long_wall: float
    quick_wall: float
    default_s: float
    long_s: float
    quick_s: float
    share: float
    same: bool

    @property
    def met(self) -> bool:
        return self.share >= AIM


class Tireless(GuidedSampler):
    """The default sampler, but for its word that there is nothing to gain, at which a search ends early."""

    @property
    def expected_gain(self) -> None:
        return None


@attrs.frozen(eq=False)
class _Search:
    artifact: Artifact
    trials: int
    wall: float


def compare_quick(
    workload: Workload,
    device: str,
    *,
    trials: int,
    seconds: float,
    rounds: int,
    seed: int,
    show: Callable[[str], None] = lambda text: None,
) -> QuickRow:
    """Tune from nothing with ``trials`` trials (all of them, unless the space has fewer), and with :data:`FEW_TRIALS`
    in ``seconds``; then time both winners.

    Raises:
        NotFound: a search found no kernel, or a winner could not be timed.
    """
    backend, resolved = resolve_device(device)
    policy = MeasurePolicy()

    def search(count: int, limit: float | None, sampler: SamplerFactory) -> _Search:
        spec, _ = plan(workload, device, trials=count, seconds=limit, seed=seed, policy=policy)
        with tempfile.TemporaryDirectory(prefix="fettle-") as folder, _store(Path(folder)) as store:
            begun = time.monotonic()
            created, _ = store.create_job(spec)
            job = run_job(store, created.id, sampler=sampler)
            wall = time.monotonic() - begun
            if not job.results or job.results[0].error:
                raise NotFound(f"no kernel of {workload}: {job.results[0].error if job.results else job.error}")
            kernel = lookup(store, workload, resolved, policy.mode).kernel
            assert kernel is not None
            show(f"{workload}: {job.results[0].trials} trials in {wall:.0f} s")
            return _Search(store.get_artifact(kernel.artifact_sha256), job.results[0].trials, wall)

    long, quick = search(trials, None, Tireless), search(FEW_TRIALS, seconds, SAMPLERS[DEFAULT])
    with make_executor(backend, resolved) as executor, executor.open(workload, policy, seed) as session:
        (untuned,) = session.build([Candidate(workload, resolved, backend.default(workload, resolved))])
        if untuned.artifact is None:
            raise NotFound(f"the default of {workload} cannot be built")
        measured = session.compare([long.artifact, quick.artifact, untuned.artifact], rounds)
    if not all(m.ok for m in measured):
        failed = "; ".join(m.message for m in measured if not m.ok)
        raise NotFound(f"a kernel of {workload} failed when timed again: {failed}")
    pairs = zip(measured[0].samples, measured[1].samples, strict=True)
    same = long.artifact.schedule == quick.artifact.schedule
    return QuickRow(
        str(workload),
        long.trials,
        quick.trials,
        long.wall,
        quick.wall,
        measured[2].median,
        measured[0].median,
        measured[1].median,
        statistics.median(a / b for a, b in pairs),
        same,
    )


def mean_share(rows: list[QuickRow]) -> float:
    """Geometric mean of the shares."""
    return geometric_mean([row.share for row in rows])


def _store(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder / 'store.db'}")
