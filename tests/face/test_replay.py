"""The command line on recorded devices: replay, tune, export, and a service that is killed."""

from __future__ import annotations

import gzip
import io
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from rich.console import Console

from fettle.cli.app import main
from fettle.costmodel.files import loads
from fettle.graph.errors import FettleError
from fettle.graph.workload import Workload
from fettle.service.client import connect
from fettle.store.jobs import Job, JobState
from fettle.store.open import open_store
from fettle.tuning import plan, tune
from tests.backends.replay.samples import BROKEN, TIMES, large, t4, write
from tests.face.support import environment

RECORDED = Workload.parse("recorded")


@attrs.frozen
class Done:
    """How a command in this process ended."""

    returncode: int
    stdout: str
    stderr: str

    def json(self) -> dict[str, Any]:
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value


Here = Callable[..., Done]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs ``fettle`` in this process, in a folder and on a store of its own: starting one takes a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FETTLE_STORE", str(tmp_path / "store.sqlite3"))

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["fettle", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        code = end.value.code
        return Done(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


# ------------------------------------------------------------------------------------------------- replay


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,200 configurations, a seventh of which fail."""
    return large(tmp_path_factory.mktemp("recording") / "large.json.gz")


def objectives(path: Path) -> list[float]:
    """Valid times of a recording, read without fettle."""
    rows = json.loads(gzip.decompress(path.read_bytes()))["results"]
    return [row["measurements"][0]["value"] for row in rows if row["correctness"]]


@pytest.mark.parametrize("sampler", ["guided", "random", "tpe", "nsga2", "evolution", "local"])
def test_replay_prints_the_curve_and_how_far_from_the_optimum_it_ends(
    sampler: str, recording: Path, here: Here
) -> None:
    words = ("replay", str(recording), "--evaluations", "24", "--seed", "3", "--sampler", sampler, "--json")
    done = here(*words)
    assert done.returncode == 0, done.stderr
    report = done.json()
    assert list(report) == ["sampler", "evaluations", "best", "optimum", "ratio", "curve"]
    assert report["sampler"] == sampler
    assert report["evaluations"] == len(report["curve"]) == 24
    assert report["optimum"] == min(objectives(recording))
    assert report["best"] == report["curve"][-1]
    assert report["best"] in objectives(recording)
    assert report["ratio"] == report["optimum"] / report["best"]
    found = [value for value in report["curve"] if value is not None]
    assert found == sorted(found, reverse=True)
    assert report["curve"][: 24 - len(found)] == [None] * (24 - len(found))
    assert done.stdout == here(*words).stdout


def test_curve_is_null_before_the_first_valid_point_and_stays_at_invalid_ones(tmp_path: Path, here: Here) -> None:
    path = write(tmp_path / "a.json", t4())
    report = here("replay", str(path), "--evaluations", "50", "--sampler", "random", "--json").json()
    assert report["evaluations"] == len(TIMES)  # all there is
    assert report["best"] == report["optimum"] == min(v for k, v in TIMES.items() if k not in BROKEN)
    assert report["ratio"] == 1.0


def test_replay_shows_a_table_to_people(recording: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("fettle.cli.replay.stdout", Console(file=shown, width=120))
    words = ("replay", str(recording), "--evaluations", "12", "--sampler", "random")
    assert here(*words).returncode == 0
    best = here(*words, "--json").json()["best"]  # the recording's times are milliseconds
    assert f"{best:.3g} ms" in shown.getvalue()
    assert "1200 configurations" in shown.getvalue()


def test_a_recording_of_another_device_is_a_head_start(tmp_path: Path, recording: Path, here: Here) -> None:
    slower = json.loads(gzip.decompress(recording.read_bytes()))
    for row in slower["results"]:
        if row["correctness"]:
            row["measurements"][0]["value"] *= 3.0
    other = write(tmp_path / "slower.json", slower)
    words = ("replay", str(recording), "--evaluations", "3", "--json")
    assert here(*words, "--warm", str(other)).json()["ratio"] == 1.0
    assert here(*words).json()["ratio"] < 1.0


@pytest.mark.parametrize(("other", "hint"), [("same.json", "no search"), ("small.json", "other parameters")])
def test_what_is_no_other_device_is_refused(other: str, hint: str, tmp_path: Path, here: Here) -> None:
    large(tmp_path / "same.json")
    write(tmp_path / "small.json", t4())
    done = here("replay", "same.json", "--warm", other)
    assert done.returncode == 2
    assert hint in done.stderr


def test_the_cost_model_is_judged_on_the_trials_of_the_store(recording: Path, tmp_path: Path, here: Here) -> None:
    assert here("tune", "recorded", "--device", f"replay:{recording}", "--trials", "64", "--json").returncode == 0
    (model,) = here("costmodel", "report", "--trained-on", "32", "--save", "models", "--json").json()["models"]
    assert model["workload"] == "recorded"
    assert model["trained_on"] == 32
    assert -1.0 <= model["spearman"] <= 1.0
    assert 0.0 <= model["coverage"] <= 1.0
    (saved,) = (tmp_path / "models").glob("*.costmodel")
    names = loads(saved.read_bytes())[1]
    assert "log2:d" in names


def test_a_new_device_is_predicted_from_ten_measurements(
    recording: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of the other device say all but its speed."""
    slower = json.loads(gzip.decompress(recording.read_bytes()))
    for row in slower["results"]:
        if row["correctness"]:
            row["measurements"][0]["value"] *= 3.0
    target = f"replay:{write(tmp_path / 'slower.json', slower)}"
    words = ("costmodel", "predict", "recorded", "--device", target, "--known", str(recording))
    report = here(*words, "--fastest", "3", "--json").json()
    assert report["known_devices"] == 1
    assert [reference["outcome"] for reference in report["references"]] == ["ok"] * 10
    best = 3e-3 * min(objectives(recording))
    assert len(report["predicted"]) == 3
    assert report["predicted"][0]["time_s"] == pytest.approx(best, rel=0.4)
    schedule = report["predicted"][0]["schedule"]
    assert (schedule["a"], schedule["b"], schedule["c"]) == (6, 3, 1)  # "d" hardly matters
    assert len(here(*words, "--fastest", "0", "--json").json()["predicted"]) == 1200 - 10
    shown = io.StringIO()
    monkeypatch.setattr("fettle.cli.output.stdout", Console(file=shown, width=240))
    assert here(*words, "--fastest", "1").returncode == 0
    assert shown.getvalue().count("measured") == 10
    assert "a=6 b=3 c=1" in shown.getvalue()


def test_nothing_is_predicted_of_a_device_without_trials_on_others(recording: Path, tmp_path: Path, here: Here) -> None:
    words = ("costmodel", "predict", "recorded", "--device", f"replay:{recording}")
    assert "--known" in here(*words).stderr
    assert "other parameters" in here(*words, "--known", str(write(tmp_path / "small.json", t4()))).stderr
    assert "brings its own workload" in here("costmodel", "predict", "softmax rows=8 cols=8 act=f32", *words[3:]).stderr


def test_a_quick_job_makes_at_most_thirty_trials(recording: Path, here: Here) -> None:
    (row,) = here("tune", "recorded", "--device", f"replay:{recording}", "--quick", "--json").json()["workloads"]
    assert row["trials"] == 30
    assert row["verified"]


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["replay", "none.json"], 3, "cannot be read"),
        (["replay", "bad.json"], 2, "line 1 column 13"),
        (["replay", "bad.json", "--evaluations", "0"], 2, "at least 1"),
        (["replay", "good.json", "--sampler", "oracle"], 2, "guided random tpe"),
        (["replay", "good.json", "--seed", "-1"], 2, "seed"),
        (["tune", "recorded", "--device", "replay:bad.json"], 2, "line 1 column 13"),
        (["tune", "recorded", "--device", "replay:none.json"], 3, "cannot be read"),
        (
            ["tune", "softmax rows=8 cols=8 act=f32", "--device", "replay:good.json", "--json"],
            1,
            "brings its own workload",
        ),
        (["tune", "recorded", "--device", "cpu", "--json"], 1, "recorded"),
    ],
)
def test_bad_usage_is_told_from_failure(words: list[str], code: int, hint: str, tmp_path: Path, here: Here) -> None:
    (tmp_path / "bad.json").write_text('{"results": oops}')
    write(tmp_path / "good.json", t4())
    done = here(*words)
    assert done.returncode == code, done.stderr
    assert hint in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------- tune, export


def test_recorded_device_is_tuned_looked_up_and_listed(tmp_path: Path, here: Here) -> None:
    write(tmp_path / "a.json", t4())
    words = ("tune", "recorded", "--device", "replay:a.json", "--trials", "20", "--json")
    (row,) = here(*words).json()["workloads"]
    assert row["basis"] == "replayed"
    assert row["verified"] is True
    assert (row["trials"], row["failed"]) == (len(TIMES), len(BROKEN))
    assert row["best_s"] == 2.0 * 1e-3
    assert row["default_s"] == TIMES[1, 2] * 1e-3
    assert row["schedule"] == {"x": 4, "y": 2, "kind": "plain"}
    assert here(*words).json()["workloads"][0]["cached"] is True
    assert here("lookup", "recorded", "--device", "replay:a.json", "--json").json()["match"] == "exact"
    (kernel,) = here("cache", "list", "--json").json()["kernels"]
    assert kernel["max_error"] is None
    assert kernel["basis"] == "replayed"


def test_exported_job_is_the_same_device_space_and_result_again(tmp_path: Path, here: Here) -> None:
    write(tmp_path / "a.json", t4())
    first = here("tune", "recorded", "--device", "replay:a.json", "--trials", "20", "--json").json()
    done = here("jobs", "export", first["job"], "-o", "exported.json.gz")
    assert done.returncode == 0, done.stderr
    second = here("tune", "recorded", "--device", "replay:exported.json.gz", "--trials", "20", "--json").json()
    fields = ("trials", "failed", "default_s", "best_s", "schedule", "verified")
    assert [first["workloads"][0][f] for f in fields] == [second["workloads"][0][f] for f in fields]
    again = here("replay", "exported.json.gz", "--json").json()
    assert again["optimum"] == 2.0 * 1e-3


def test_export_of_measured_kernels_replays_their_times(tuned_folder: Path, here: Here, tmp_path: Path) -> None:
    job = json.loads((tuned_folder / "tune.json").read_text())
    path, store = tmp_path / "softmax.json.gz", str(tuned_folder / "store.sqlite3")
    assert here("jobs", "export", job["job"], "--output", str(path), "--store", store).returncode == 0
    with open_store(store) as opened:
        (workload, _), *_ = opened.get_job(job["job"]).spec.workloads
        records = opened.job_records(job["job"], workload.key)
    report = here("replay", str(path), "--json").json()
    assert report["evaluations"] == len(records)
    assert report["optimum"] == min(r.measurement.median for r in records if r.verified)
    other = ("--workload", "recorded", "--store", store)
    assert here("jobs", "export", job["job"], "-o", str(path), *other).returncode == 3
    assert here("jobs", "export", "nosuchjob", "-o", str(path), "--store", store).returncode == 3


def test_export_of_a_job_with_several_workloads_asks_which(tmp_path: Path, here: Here) -> None:
    write(tmp_path / "a.json", t4())
    spec, _ = plan([RECORDED, Workload.parse("softmax rows=8 cols=8 act=f32")], "replay:a.json")
    with open_store(str(tmp_path / "store.sqlite3")) as opened:
        job, _ = opened.create_job(spec)
    asked = here("jobs", "export", job.id, "-o", "b.json")
    assert asked.returncode == 2
    assert "softmax rows=8 cols=8 act=f32" in asked.stderr
    untried = here("jobs", "export", job.id, "-o", "b.json", "--workload", RECORDED.key)
    assert untried.returncode == 3
    assert "no trials" in untried.stderr
    assert not (tmp_path / "b.json").exists()


# ------------------------------------------------------------------------------------------------ service


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``fettle serve`` on the folder's store, and its address; killed at the end if it still runs."""
    command = [sys.executable, "-m", "fettle", "serve", "--listen", "127.0.0.1:0", *words]
    with open(folder / "log", "a") as log:
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(folder), cwd=folder
        )
    try:
        assert started.stdout is not None
        yield started, started.stdout.readline().removeprefix("listening ").strip()
    finally:
        started.kill()
        started.wait()
        assert started.stdout is not None
        started.stdout.close()


def settled(job: Job) -> list[Any]:
    return [attrs.evolve(result, seconds=0.0) for result in job.results]


def tried(store: Path, job_id: str) -> list[Any]:
    with open_store(str(store)) as opened:
        return [(r.candidate.schedule, r.measurement) for r in opened.job_records(job_id, RECORDED.key)]


def test_server_that_is_killed_twice_ends_with_the_result_of_an_undisturbed_run(
    recording: Path, tmp_path: Path
) -> None:
    device = f"replay:{recording}"
    alone = tmp_path / "alone.sqlite3"
    undisturbed = tune("recorded", device, trials=96, seed=5, store=str(alone))
    folder = tmp_path / "server"
    folder.mkdir()
    job_id = ""
    for kill_after in (11, 37):
        with serving(folder, "--replay-root", str(recording.parent)) as (server, address), connect(address) as client:
            job_id = job_id or client.submit(workloads=[(RECORDED, 1)], device=device, trials=96, seed=5).id
            for event in client.watch(job_id):
                if event.kind == "trial" and event.data["trial"] >= kill_after:
                    break
            server.send_signal(signal.SIGKILL)
            server.wait(10)
        with open_store(str(folder / "store.sqlite3")) as opened:
            cut_off = opened.get_job(job_id)
        assert cut_off.state is JobState.RUNNING
        assert kill_after <= cut_off.trials < 96
    with serving(folder, "--replay-root", str(recording.parent)) as (_, address), connect(address) as client:
        finished = client.wait(job_id)
    assert finished.state is JobState.DONE
    assert tried(folder / "store.sqlite3", job_id) == tried(alone, undisturbed.id)
    assert settled(finished) == settled(undisturbed)
    with open_store(str(folder / "store.sqlite3")) as opened:
        numbers = [e.data["trial"] for e in opened.events(job_id) if e.kind == "trial"]
    assert numbers == list(range(1, 97))
    assert math.isclose(finished.results[0].best_s or 0.0, min(objectives(recording)) * 1e-3, rel_tol=0.1)


def test_tune_on_a_server_sends_the_absolute_path_and_the_server_keeps_to_its_root(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, client_folder = tmp_path / "root", tmp_path / "client"
    root.mkdir()
    client_folder.mkdir()
    write(root / "a.json", t4())
    write(client_folder / "b.json", t4())
    monkeypatch.chdir(client_folder)  # not where the server runs

    def remote(address: str, device: str) -> Done:
        return here("tune", "recorded", "--device", device, "--trials", "20", "--server", address, "--json")

    with serving(tmp_path, "--replay-root", "root") as (_, address):
        (row,) = remote(address, "replay:../root/a.json").json()["workloads"]
        assert row["best_s"] == 2.0 * 1e-3
        refused = remote(address, "replay:b.json")
        assert refused.returncode == 2
        assert "not under the server's replay root" in refused.stderr
        with connect(address) as client, pytest.raises(FettleError, match="absolute"):
            client.submit(workloads=[(RECORDED, 1)], device="replay:a.json")
    with serving(tmp_path) as (_, address):
        refused = remote(address, "replay:../root/a.json")
        assert refused.returncode == 1
        assert "--replay-root" in refused.stderr
