"""A recording as a device: identity, space, trials, whole jobs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest

from fettle.backends.api import Basis, Candidate, Device, DeviceText, MeasurePolicy, Outcome, Profile, Schedule
from fettle.backends.registry import backend_names, resolve_device
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.executor import ReplayExecutor
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import BuildFailure, Conflict, InvalidDevice, NotFound, Unsupported
from fettle.graph.workload import Workload
from fettle.search.explore import Evaluation, explore
from fettle.search.jobs import run_job
from fettle.store.jobs import Job, JobEvent, JobState
from fettle.store.memory import MemoryStore
from fettle.store.specs import Budget, JobSpec
from tests.backends.replay.samples import BROKEN, TIMES, cache, large, t4, write

RECORDED = Workload.parse("recorded")
POLICY = MeasurePolicy()


PLAIN_SAMPLERS = ("guided", "random", "tpe", "nsga2", "evolution", "local")
"""Those that need no package besides the base installation's."""


def opened(path: Path) -> tuple[ReplayBackend, Device]:
    backend = ReplayBackend()
    return backend, backend.device(DeviceText.parse(f"replay:{path}"))


# ------------------------------------------------------------------------------------------------ devices


def test_replay_is_a_registered_backend(tmp_path: Path) -> None:
    assert "replay" in backend_names()
    backend, device = resolve_device(f"replay:{write(tmp_path / 'a.json', t4())}")
    assert backend.name == device.backend == "replay"
    assert backend.devices() == ()


def test_identity_is_the_content_and_the_device_name_never_the_path(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    here, there = write(tmp_path / "a.json", cache()), write(tmp_path / "elsewhere" / "b.json.gz", cache())
    (_, one), (_, two) = opened(here), opened(there)
    assert one == two
    assert one.key == two.key
    assert one.fact("name") == one.label == "Paper 4000"
    assert str(tmp_path) not in repr(one)
    _, other = opened(write(tmp_path / "c.json", t4()))
    assert other.key != one.key
    assert (other.label, other.fact("name")) == ("c", "")


@pytest.mark.parametrize("text", ["replay", "replay:", "replay,threads=1", "replay:/x.json,threads=1"])
def test_device_text_without_a_file_or_with_options_is_refused(text: str) -> None:
    with pytest.raises(InvalidDevice):
        ReplayBackend().device(DeviceText.parse(text))


def test_only_the_recorded_workload_is_supported(tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    assert backend.supports(RECORDED, device)
    refused = backend.supports(Workload.parse("softmax rows=8 cols=8 act=f32"), device)
    assert "recorded" in refused.reason
    cpu, cpu_device = resolve_device("cpu")
    assert not cpu.supports(RECORDED, cpu_device)


def test_file_that_changed_is_another_device(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", t4())
    backend, before = opened(path)
    write(path, cache())
    assert backend.device(DeviceText.parse(f"replay:{path}")) != before
    fresh = ReplayBackend()
    with pytest.raises(Conflict, match="submit it again"):
        fresh.attach(before, f"replay:{path}")
    with pytest.raises(NotFound, match="not known here"):
        fresh.space(RECORDED, before)
    path.unlink()
    with pytest.raises(NotFound):
        fresh.attach(before, f"replay:{path}")


def test_recordings_beyond_those_kept_are_read_again(tmp_path: Path) -> None:
    backend = ReplayBackend()
    devices = []
    for number in range(12):
        document = t4()
        document["results"][4]["times"]["runtimes"] = [1.0 + number]
        devices.append(backend.device(DeviceText.parse(f"replay:{write(tmp_path / f'{number}.json', document)}")))
    for number, device in enumerate(devices):
        assert backend.recording(device).rows[4].samples == (pytest.approx((1.0 + number) * 1e-3),)


# ------------------------------------------------------------------------------------------------- trials


def test_space_is_the_recorded_rows_in_their_order_and_the_default_the_first_valid_one(tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    points = enumerate_space(backend.space(RECORDED, device))
    assert points.size == len(TIMES)
    assert [(points[i]["x"], points[i]["y"]) for i in range(points.size)] == list(TIMES)
    assert backend.default(RECORDED, device) == Schedule.of(x=1, y=2, kind="plain")


def test_executor_gives_every_row_its_recorded_outcome(tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    points = enumerate_space(backend.space(RECORDED, device))
    executor = backend.executor(device)
    assert isinstance(executor, ReplayExecutor)
    assert executor.profile() == Profile(device.key, ())
    candidates = [Candidate(RECORDED, device, points[i]) for i in range(points.size)]
    with executor, executor.open(RECORDED, POLICY, 0) as session:
        for (x, y), build in zip(TIMES, session.build(candidates), strict=True):
            if BROKEN.get((x, y)) == "compile":
                assert build.artifact is None
                assert build.failure is not None
                assert build.failure.outcome is Outcome.COMPILE_ERROR
                continue
            assert build.artifact is not None
            trial = session.evaluate(build.candidate, build.artifact)
            assert trial.verified is ((x, y) not in BROKEN)
            assert trial.max_error is None
            assert trial.measurement.basis is Basis.REPLAYED
            assert trial.measurement.outcome is (Outcome.RUN_ERROR if (x, y) in BROKEN else Outcome.OK)
            if trial.verified:
                assert trial.measurement.time == TIMES[x, y] * 1e-3
                (round_,) = session.compare([build.artifact], 5)
                assert round_.samples == (TIMES[x, y] * 1e-3,) * 5


def test_configuration_that_was_not_recorded_is_invalid(tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    candidate = Candidate(RECORDED, device, Schedule.of(x=3, y=1, kind="plain"))
    with backend.executor(device).open(RECORDED, POLICY, 0) as session:
        (build,) = session.build([candidate])
    assert build.failure is not None
    assert build.failure.outcome is Outcome.INVALID
    with pytest.raises(BuildFailure, match="not recorded"):
        backend.build(candidate)


def test_recorded_kernels_cannot_be_run(tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    artifact = backend.build(Candidate(RECORDED, device, backend.default(RECORDED, device)))
    with pytest.raises(Unsupported):
        backend.load(artifact)
    with pytest.raises(Unsupported):
        RECORDED.spec.reference({}, [])


# ------------------------------------------------------------------------------------------------- search


@pytest.mark.parametrize("sampler", PLAIN_SAMPLERS)
def test_exploring_is_deterministic_by_seed_and_tries_no_point_twice(sampler: str, tmp_path: Path) -> None:
    backend, device = opened(large(tmp_path / "a.json"))

    def tried(seed: int, count: int) -> list[Evaluation]:
        return explore(backend, RECORDED, device, count, seed=seed, sampler=sampler)

    found = tried(1, 30)
    assert len({e.point for e in found}) == 30
    assert found == tried(1, 30)
    assert found[:20] == tried(1, 20)
    assert found != tried(2, 30)


@pytest.mark.parametrize("sampler", PLAIN_SAMPLERS)
def test_exploring_more_than_there_is_tries_everything_once(sampler: str, tmp_path: Path) -> None:
    backend, device = opened(write(tmp_path / "a.json", t4()))
    found = explore(backend, RECORDED, device, 100, sampler=sampler)
    assert sorted(e.point for e in found) == list(range(len(TIMES)))


def test_optimum_is_not_visible_to_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving a time that was not tried changes nothing that was."""
    backend, device = opened(large(tmp_path / "a.json"))
    before = explore(backend, RECORDED, device, 24)
    recording = backend.recording(device)
    untried = next(
        n for n, row in enumerate(recording.rows) if row.objective is not None and n not in {e.point for e in before}
    )
    rows = list(recording.rows)
    rows[untried] = attrs.evolve(rows[untried], objective=rows[untried].objective / 1e6)  # type: ignore[operator]
    changed = attrs.evolve(recording, rows=tuple(rows))
    monkeypatch.setattr(backend, "recording", lambda device: changed)
    assert explore(backend, RECORDED, device, 24) == before


# --------------------------------------------------------------------------------------------- whole jobs


def spec(path: Path, device: Device, trials: int, seconds: float | None = None) -> JobSpec:
    return JobSpec(((RECORDED, 1),), device, f"replay:{path}", Budget(trials, seconds))


def settled(job: Job) -> list[object]:
    return [attrs.evolve(result, seconds=0.0) for result in job.results]


def schedules(store: MemoryStore, job: Job) -> list[Schedule]:
    return [r.candidate.schedule for r in store.job_records(job.id, RECORDED.key)]


def test_job_finds_the_optimum_of_a_small_space_and_reports_recorded_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json.gz", t4())
    _, device = opened(path)
    with MemoryStore() as store:
        created, _ = store.create_job(spec(path, device, 100))
        job = run_job(store, created.id)
    (result,) = job.results
    assert job.state is JobState.DONE
    assert (result.trials, result.failed) == (len(TIMES), len(BROKEN))
    assert result.basis is Basis.REPLAYED
    assert result.verified
    assert result.best_s == 2.0 * 1e-3
    assert result.default_s == TIMES[1, 2] * 1e-3
    assert result.schedule == Schedule.of(x=4, y=2, kind="plain")
    assert result.max_error is None


def test_time_limit_does_not_pay_for_recorded_seconds(tmp_path: Path) -> None:
    """Finals of kernels that take minutes look their times up."""
    document = t4()
    for result in document["results"]:
        result["measurements"][0]["unit"] = "s"
    path = write(tmp_path / "a.json", document)
    _, device = opened(path)
    with MemoryStore() as store:
        created, _ = store.create_job(spec(path, device, 100, seconds=20.0))
        (result,) = run_job(store, created.id).results
    assert result.trials == len(TIMES)
    assert result.best_s == 2.0


def test_paused_job_goes_on_in_another_process_as_if_nothing_had_happened(tmp_path: Path) -> None:
    path = large(tmp_path / "a.json")
    _, device = opened(path)
    with MemoryStore() as store:
        created, _ = store.create_job(spec(path, device, 40))
        undisturbed = run_job(store, created.id, backend=ReplayBackend())
        expected = schedules(store, undisturbed)
    with MemoryStore() as store:
        job, _ = store.create_job(spec(path, device, 40))
        seconds = itertools.count()  # one between any two looks at the clock, so that every trial is stored at once
        for stop_after in (3, 8, 21):
            pause = threading.Event()

            def stop(event: JobEvent, pause: threading.Event = pause, after: int = stop_after) -> None:
                if event.kind == "trial" and event.data["trial"] == after:
                    pause.set()

            paused = run_job(
                store, job.id, backend=ReplayBackend(), pause=pause, on_event=stop, clock=lambda: float(next(seconds))
            )
            assert paused.state is JobState.PAUSED
            assert paused.trials == stop_after
        finished = run_job(store, job.id, backend=ReplayBackend())
        assert schedules(store, finished) == expected
    assert settled(finished) == settled(undisturbed)


def test_job_whose_file_changed_fails_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", t4())
    _, device = opened(path)
    write(path, cache())
    with MemoryStore() as store:
        created, _ = store.create_job(spec(path, device, 4))
        job = run_job(store, created.id, backend=ReplayBackend())
    assert job.state is JobState.FAILED
    assert "is not what it was" in job.error


def test_thousands_of_evaluations_a_second_need_no_worker_process(tmp_path: Path) -> None:
    backend, device = opened(large(tmp_path / "a.json"))
    points = enumerate_space(backend.space(RECORDED, device))
    numbers: Sequence[int] = np.random.default_rng(0).permutation(points.size).tolist()
    before = threading.active_count()
    with backend.executor(device) as executor, executor.open(RECORDED, POLICY, 0) as session:
        builds = session.build([Candidate(RECORDED, device, points[i]) for i in numbers])
        trials = [session.evaluate(b.candidate, b.artifact) for b in builds if b.artifact is not None]
        assert threading.active_count() == before
    assert len(trials) == points.size
