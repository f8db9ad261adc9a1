"""Whole jobs: states, results, the cache, budgets, stops and failures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from fettle.backends.api import Backend, Device, Outcome, Profile, Schedule, Space
from fettle.graph import codec
from fettle.graph.errors import Cancelled, NotFound, StoreFull, StoreUnavailable, Unavailable
from fettle.graph.workload import Workload
from fettle.search.jobs import run_job
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import kernel_key
from fettle.store.memory import MemoryStore
from fettle.store.specs import Budget, JobSpec
from tests.search.synthetic import DEFAULT, DEVICE, FakeClock, SyntheticBackend, SyntheticExecutor, workload


class Bench:
    """A store, a backend, an executor and a clock; runs jobs on them."""

    def __init__(self, backend: SyntheticBackend | None = None, **executor: Any) -> None:
        self.store = MemoryStore()
        self.backend = backend or SyntheticBackend()
        self.clock = FakeClock()
        self.options = executor
        self.executors: list[SyntheticExecutor] = []
        self.events: list[JobEvent] = []

    def factory(self, backend: Backend, device: Device) -> SyntheticExecutor:
        assert device == DEVICE
        self.executors.append(SyntheticExecutor(self.backend, clock=self.clock, **self.options))
        return self.executors[-1]

    def submit(
        self, *workloads: Workload | tuple[Workload, int], trials: int = 16, seconds: float | None = None, **spec: Any
    ) -> str:
        pairs = tuple(w if isinstance(w, tuple) else (w, 1) for w in workloads or (workload(),))
        job, _ = self.store.create_job(JobSpec(pairs, DEVICE, "synthetic", Budget(trials, seconds), **spec))
        return job.id

    def run(self, job_id: str, **options: Any) -> Job:
        job = run_job(
            self.store,
            job_id,
            backend=self.backend,
            executor_factory=self.factory,
            on_event=self.events.append,
            clock=self.clock,
            **options,
        )
        assert all(executor.closed for executor in self.executors)
        assert all(session.closed for executor in self.executors for session in executor.sessions)
        return job

    def schedules(self) -> list[Schedule]:
        return [c.schedule for executor in self.executors for c in executor.evaluated]

    def stop_after(self, trials: int, event: threading.Event) -> None:
        self.options["after_trial"] = lambda number: event.set() if number == trials else None


def only(job: Job) -> WorkloadResult:
    (result,) = job.results
    return result


def test_a_job_tunes_verifies_and_caches_its_workload() -> None:
    bench = Bench()
    job = bench.run(bench.submit(trials=40))
    result = only(job)
    assert job.state is JobState.DONE
    assert (job.trials, job.error) == (40, "")
    assert (result.trials, result.failed, result.verified, result.cached) == (40, 0, True, False)
    fastest = min(bench.schedules(), key=lambda s: bench.backend.seconds(workload(), s))
    assert result.schedule == fastest
    assert result.best_s == bench.backend.seconds(workload(), fastest)
    assert result.default_s == bench.backend.seconds(workload(), DEFAULT)
    assert result.best_ci == (result.best_s, result.best_s)
    assert result.bound_s == workload().flops / 1e9
    assert result.spearman is not None
    kernel = bench.store.get_kernel(kernel_key(workload(), DEVICE))
    assert kernel is not None
    assert (kernel.schedule, kernel.best_s, kernel.job_id) == (fastest, result.best_s, job.id)
    assert bench.store.get_artifact(kernel.artifact_sha256).schedule == fastest


def test_events_tell_the_whole_story_in_plain_data() -> None:
    bench = Bench()
    job = bench.run(bench.submit(workload(), workload(512), trials=12))
    assert tuple(bench.events) == bench.store.events(job.id)
    assert [e.number for e in bench.events] == list(range(1, len(bench.events) + 1))
    assert [e.data["state"] for e in bench.events if e.kind == "state"] == ["running", "done"]
    assert {e.data["phase"] for e in bench.events if e.kind == "phase"} == {"profile", "search", "finals"}
    trials = [e.data for e in bench.events if e.kind == "trial"]
    assert [t["done"] for t in trials] == list(range(1, 25))
    assert {t["total"] for t in trials} == {24}
    assert {frozenset(t) for t in trials} == {
        frozenset(
            (
                "workload",
                "trial",
                "trials",
                "outcome",
                "seconds",
                "best_s",
                "failed",
                "schedule",
                "eta_s",
                "done",
                "total",
            )
        )
    }
    etas = [t["eta_s"] for t in trials if t["eta_s"] is not None]
    assert etas[-1] < etas[0]
    results = [codec.from_data(WorkloadResult, e.data) for e in bench.events if e.kind == "result"]
    assert set(results) == set(job.results)


def test_a_second_job_is_served_from_the_cache_without_measuring() -> None:
    bench = Bench()
    first = only(bench.run(bench.submit()))
    job = bench.run(bench.submit(seed=1))
    result = only(job)
    assert job.state is JobState.DONE
    assert result.cached
    assert (result.trials, result.best_s, result.schedule) == (0, first.best_s, first.schedule)
    assert len(bench.executors) == 1


def test_force_tunes_again_and_the_profile_is_taken_once() -> None:
    bench = Bench()
    bench.run(bench.submit())
    job = bench.run(bench.submit(force=True, trials=24))
    assert not only(job).cached
    assert only(job).trials == 24
    assert [e.profiled for e in bench.executors] == [1, 0]
    kernel = bench.store.get_kernel(kernel_key(workload(), DEVICE))
    assert kernel is not None
    assert kernel.job_id == job.id


def test_an_unsupported_workload_gets_the_reason_and_the_others_a_kernel() -> None:
    bench = Bench()
    softmax = Workload.of("softmax", rows=8, cols=8, act="f32")
    job = bench.run(bench.submit(softmax, workload()))
    by_workload = {r.workload: r for r in job.results}
    assert job.state is JobState.DONE
    assert by_workload[softmax].error == "only matmul"
    assert by_workload[workload()].verified


@pytest.mark.parametrize(
    ("method", "value", "told"),
    [
        ("supports", False, "supports() of backend 'synthetic' returned bool, not Support"),
        ("space", [4, 8], "space() of backend 'synthetic' returned list, not Space"),
        ("default", {"tile_m": 4}, "default() of backend 'synthetic' returned dict, not Schedule"),
        ("bound", 1e-9, "bound() of backend 'synthetic' returned float, not Bound"),
    ],
)
def test_a_plugin_that_returns_another_type_is_told_which_method_and_which_type(
    monkeypatch: pytest.MonkeyPatch, method: str, value: object, told: str
) -> None:
    backend = SyntheticBackend()
    monkeypatch.setattr(backend, method, lambda *arguments: value)
    bench = Bench(backend)
    job = bench.run(bench.submit())
    assert job.state is JobState.FAILED
    assert told in job.error


def test_a_job_with_nothing_but_failures_fails_with_the_reasons() -> None:
    bench = Bench(SyntheticBackend(fails=lambda schedule: Outcome.WRONG_RESULT))
    job = bench.run(bench.submit())
    result = only(job)
    assert job.state is JobState.FAILED
    assert result.error in job.error
    assert "all 16 trials failed" in result.error
    assert "wrong_result: as told" in result.error
    assert (result.trials, result.failed, result.best_s, result.verified) == (16, 16, None, False)
    assert bench.store.kernels() == ()


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
def test_a_job_survives_failing_trials_of_every_outcome(outcome: Outcome) -> None:
    bench = Bench(SyntheticBackend(fails=lambda s: outcome if s["algorithm"] != "plain" else None))
    job = bench.run(bench.submit(trials=24))
    assert job.state is JobState.DONE
    assert job.failed > 0
    assert only(job).schedule is not None
    assert only(job).schedule["algorithm"] == "plain"  # type: ignore[index]
    failures = {e.data["outcome"] for e in bench.events if e.kind == "trial"} - {"ok"}
    assert failures == {outcome.value}


def test_a_default_that_fails_leaves_a_kernel_without_a_speedup() -> None:
    bench = Bench(SyntheticBackend(fails=lambda s: Outcome.CRASH if s == DEFAULT else None))
    result = only(bench.run(bench.submit()))
    assert result.verified
    assert (result.default_s, result.speedup) == (None, None)
    again = only(bench.run(bench.submit(seed=9)))
    assert (again.cached, again.default_s) == (True, None)


def test_the_cache_never_holds_a_kernel_slower_than_the_default() -> None:
    class DefaultIsBest(SyntheticBackend):
        def seconds(self, workload: Workload, schedule: Schedule) -> float:
            return 1e-3 if schedule == DEFAULT else 1.001e-3

    bench = Bench(DefaultIsBest(), noise=0.05)
    result = only(bench.run(bench.submit()))
    assert result.schedule == DEFAULT
    assert result.best_s == result.default_s
    assert result.speedup == 1.0


def test_a_workload_too_large_for_memory_does_not_lose_the_others() -> None:
    bench = Bench(too_large=lambda w: w["n"] == 512)
    job = bench.run(bench.submit(workload(512), workload(256)))
    by_n = {r.workload["n"]: r for r in job.results}
    assert job.state is JobState.DONE
    assert by_n[512].error == "operands do not fit in memory"
    assert by_n[256].verified


def test_sessions_are_closed_to_make_room_for_the_next_workload() -> None:
    bench = Bench(sessions_at_once=1)
    job = bench.run(bench.submit(workload(256), workload(512)))
    assert all(r.verified for r in job.results)
    assert len(bench.executors[0].sessions) > 2


def test_a_cancelled_job_keeps_its_best_kernel() -> None:
    bench, cancel = Bench(), threading.Event()
    bench.stop_after(11, cancel)
    job = bench.run(bench.submit(trials=64), cancel=cancel)
    assert job.state is JobState.CANCELLED
    assert len(bench.schedules()) == only(job).trials == 11
    assert only(job).best_s == min(bench.backend.seconds(workload(), s) for s in bench.schedules())
    assert bench.store.get_kernel(kernel_key(workload(), DEVICE)) is not None
    assert bench.executors[0].compared == [(4, 7)]


def test_a_cancel_requested_in_the_store_is_obeyed_after_the_present_trial() -> None:
    bench = Bench()
    job_id = bench.submit(workload(), workload(512), trials=64)
    bench.options["after_trial"] = lambda number: bench.store.request_cancel(job_id) if number == 3 else None
    job = bench.run(job_id)
    assert job.state is JobState.CANCELLED
    assert len(bench.schedules()) == 3
    assert sorted(r.error for r in job.results) == ["", "cancelled before the first trial"]


@pytest.mark.parametrize(("how", "end"), [("cancel", JobState.CANCELLED), ("pause", JobState.PAUSED)])
def test_a_stop_is_obeyed_while_searches_are_still_set_up(how: str, end: JobState) -> None:
    stop = threading.Event()

    class Impatient(SyntheticBackend):
        def space(self, workload: Workload, device: Device) -> Space:
            asked.append(workload["n"])
            stop.set()
            return super().space(workload, device)

    asked: list[int] = []
    bench = Bench(Impatient())
    job_id = bench.submit(workload(256), workload(512), workload(1024))
    job = bench.run(job_id, **{how: stop})
    assert (job.state, bench.schedules(), set(asked)) == (end, [], {256})
    assert {r.error for r in job.results} == ({"cancelled before the first trial"} if how == "cancel" else set())


@pytest.mark.parametrize(("how", "end"), [("cancel", JobState.CANCELLED), ("pause", JobState.PAUSED)])
def test_a_stop_does_not_wait_for_the_roofs_of_the_device(how: str, end: JobState) -> None:
    stop = threading.Event()

    class Slow(SyntheticExecutor):
        def profile(self) -> Profile:
            stop.set()
            assert ended.wait(30), "closed while the roofs are measured"
            raise Cancelled("the executor was closed")

        def close(self) -> None:
            super().close()
            ended.set()

    ended = threading.Event()
    bench = Bench()
    job_id = bench.submit(workload(256), workload(512))
    job = run_job(bench.store, job_id, backend=bench.backend, executor_factory=lambda b, d: Slow(b), **{how: stop})
    assert (job.state, job.trials) == (end, 0)
    assert [r.error for r in job.results] == (["cancelled before the first trial"] * 2 if how == "cancel" else [])
    stop.clear()
    assert bench.run(bench.submit(workload(256)) if how == "cancel" else job_id).state is JobState.DONE


def test_a_paused_job_goes_on_as_if_it_had_never_stopped() -> None:
    whole = Bench()
    expected = only(whole.run(whole.submit(trials=40)))
    bench, pause = Bench(), threading.Event()
    job_id = bench.submit(trials=40)
    bench.stop_after(13, pause)
    paused = bench.run(job_id, pause=pause)
    assert paused.state is JobState.PAUSED
    assert (paused.trials, paused.results) == (13, ())
    assert bench.executors[0].compared == []
    bench.options.clear()
    job = bench.run(job_id)
    assert job.state is JobState.DONE
    assert bench.schedules() == whole.schedules()
    assert (only(job).best_s, only(job).spearman) == (expected.best_s, expected.spearman)


def test_a_job_resumes_after_a_crash_in_the_middle_of_a_batch() -> None:
    bench = Bench()
    job_id = bench.submit(workload(), workload(512), trials=20)

    def crash(number: int) -> None:
        if number == 21:
            raise KeyboardInterrupt

    bench.options["after_trial"] = crash
    with pytest.raises(KeyboardInterrupt):
        bench.run(job_id)
    assert bench.executors[0].closed
    assert bench.store.get_job(job_id).state is JobState.RUNNING
    bench.options.clear()
    job = bench.run(job_id)
    assert job.state is JobState.DONE
    assert job.trials == 40
    pairs = [(c.workload, c.schedule) for executor in bench.executors for c in executor.evaluated]
    assert len(pairs) == 41  # the trial that crashed left no record and was repeated
    assert len(set(pairs)) == 40


@pytest.mark.parametrize("trouble", [StoreUnavailable("the database is away"), StoreFull("no space left")])
def test_trouble_with_the_store_is_no_fault_of_the_job_which_goes_on_later(trouble: Exception) -> None:
    class Flaky(MemoryStore):
        trouble: Exception | None = None

        def add_records(self, *arguments: Any) -> tuple[JobEvent | None, ...]:
            if self.trouble:
                raise self.trouble
            return super().add_records(*arguments)

    bench = Bench()
    bench.store = store = Flaky()
    job_id = bench.submit(workload(), workload(512), trials=20)

    def go_away(number: int) -> None:
        store.trouble = trouble if number == 21 else None

    bench.options["after_trial"] = go_away
    with pytest.raises(type(trouble)):
        bench.run(job_id)
    stopped = store.get_job(job_id)
    assert (stopped.state, stopped.results) == (JobState.RUNNING, ())
    store.trouble = None
    job = bench.run(job_id)
    assert (job.state, job.trials) == (JobState.DONE, 40)
    assert all(result.verified for result in job.results)


def test_the_time_limit_includes_finals_and_what_earlier_runs_took() -> None:
    bench, pause = Bench(), threading.Event()
    begun = bench.clock()
    job_id = bench.submit(trials=1000, seconds=60.0)
    bench.stop_after(20, pause)
    bench.run(job_id, pause=pause)
    bench.options.clear()
    job = bench.run(job_id)
    assert job.state is JobState.DONE
    assert 40 < job.trials <= 48
    assert bench.clock() - begun <= 62.0


def test_a_final_job_is_returned_as_it_is() -> None:
    bench = Bench()
    job = bench.run(bench.submit())
    assert bench.run(job.id) == job
    assert len(bench.executors) == 1
    with pytest.raises(NotFound):
        bench.run("no-such-job")


def test_the_workload_that_matters_most_gets_most_trials() -> None:
    bench = Bench()
    job = bench.run(bench.submit((workload(256), 1), (workload(257), 20), trials=24))
    trials = {r.workload["n"]: r.trials for r in job.results}
    assert sum(trials.values()) == 48
    assert trials[257] > 1.5 * trials[256]


@pytest.mark.parametrize(
    ("error", "text"), [(Unavailable("worker is gone"), "worker is gone"), (KeyError("oops"), "KeyError: 'oops'")]
)
def test_what_breaks_a_job_is_kept_and_its_executor_closed(error: Exception, text: str) -> None:
    def broken(number: int) -> None:
        raise error

    bench = Bench(after_trial=broken)
    job = bench.run(bench.submit())
    assert job.state is JobState.FAILED
    assert text in job.error


def test_equal_measurements_and_seed_give_equal_jobs() -> None:
    def schedules(seed: int) -> list[Schedule]:
        bench = Bench()
        bench.run(bench.submit(seed=seed, trials=24))
        return bench.schedules()

    assert schedules(1) == schedules(1)
    assert schedules(1) != schedules(2)


def test_a_caller_may_supply_another_sampler() -> None:
    from fettle.search.samplers.uniform import RandomSampler

    made: list[RandomSampler] = []

    def sampler(*arguments: Any) -> RandomSampler:
        made.append(RandomSampler(*arguments))
        return made[-1]

    factory: Callable[..., RandomSampler] = sampler
    bench = Bench()
    assert bench.run(bench.submit(), sampler=factory).state is JobState.DONE
    assert len(made) == 1
