"""What a quick search gives up: beside a long one, every kernel of a model timed in turns with the other's."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from fettle.backends.api import Artifact, Candidate, Measurement, MeasurePolicy
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
    request = _Request(workload, device, seed, show)
    long, quick = request.search(trials, None, Tireless), request.search(FEW_TRIALS, seconds, SAMPLERS[DEFAULT])
    timed = request.time_again([long.artifact, quick.artifact], rounds)
    shares = [a / b for a, b in zip(timed[0].samples, timed[1].samples, strict=True)]
    return QuickRow(
        str(workload),
        long_trials=long.trials,
        quick_trials=quick.trials,
        long_wall=long.wall,
        quick_wall=quick.wall,
        default_s=timed[2].median,
        long_s=timed[0].median,
        quick_s=timed[1].median,
        share=statistics.median(shares),
        same=long.artifact.schedule == quick.artifact.schedule,
    )


@attrs.frozen
class _Request:
    """What is searched for, each time in a store of its own."""

    workload: Workload
    device: str
    seed: int
    show: Callable[[str], None]
    policy: MeasurePolicy = MeasurePolicy()

    def search(self, trials: int, seconds: float | None, sampler: SamplerFactory) -> _Search:
        """Raises NotFound if there is no kernel."""
        spec, _ = plan(self.workload, self.device, trials=trials, seconds=seconds, seed=self.seed, policy=self.policy)
        with tempfile.TemporaryDirectory(prefix="fettle-") as folder, _store(Path(folder)) as store:
            begun = time.monotonic()
            job = run_job(store, store.create_job(spec)[0].id, sampler=sampler)
            wall = time.monotonic() - begun
            if not job.results or job.results[0].error:
                raise NotFound(f"no kernel of {self.workload}: {job.results[0].error if job.results else job.error}")
            kernel = lookup(store, self.workload, spec.device, self.policy.mode).kernel
            assert kernel is not None
            self.show(f"{self.workload}: {job.results[0].trials} trials in {wall:.0f} s")
            return _Search(store.get_artifact(kernel.artifact_sha256), job.results[0].trials, wall)

    def time_again(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        """In turns with the default, which comes last. Raises NotFound if one cannot be built or timed."""
        backend, device = resolve_device(self.device)
        default = Candidate(self.workload, device, backend.default(self.workload, device))
        with (
            make_executor(backend, device) as executor,
            executor.open(self.workload, self.policy, self.seed) as session,
        ):
            (untuned,) = session.build([default])
            if untuned.artifact is None:
                raise NotFound(f"the default of {self.workload} cannot be built")
            measured = session.compare([*artifacts, untuned.artifact], rounds)
        if not all(m.ok for m in measured):
            failed = "; ".join(m.message for m in measured if not m.ok)
            raise NotFound(f"a kernel of {self.workload} failed when timed again: {failed}")
        return measured


def mean_share(rows: list[QuickRow]) -> float:
    """Geometric mean of the shares."""
    return geometric_mean([row.share for row in rows])


def _store(folder: Path) -> Store:
    return open_store(f"sqlite:///{folder / 'store.db'}")
