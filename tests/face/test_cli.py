"""The words other programs rely on: JSON fields, exit codes, errors that name the fix."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.face.support import DEVICE, SOFTMAX, Fettle, environment, parsed, run_fettle


def test_tune_prints_one_json_object_with_the_documented_fields(tuned_folder: Path) -> None:
    job = json.loads((tuned_folder / "tune.json").read_text())
    assert job["device"] == DEVICE
    (row,) = job["workloads"]
    assert {"workload", "key", "count", "trials", "failed", "verified", "cached", "basis", "max_error"} <= row.keys()
    assert {"default_s", "best_s", "speedup", "best_ci_s", "bound_s", "bound", "schedule", "seconds"} <= row.keys()
    assert row["workload"] == SOFTMAX
    assert row["trials"] == 6
    assert row["verified"] is True
    assert row["basis"] == "measured"
    assert 0 < row["best_s"] <= row["default_s"] < 0.01
    assert row["best_ci_s"][0] <= row["best_s"] <= row["best_ci_s"][1]


def test_tuning_again_is_served_from_the_cache(tuned: Fettle) -> None:
    done = tuned("tune", SOFTMAX, "--device", DEVICE, "--trials", "6", "--seed", "7", "--json")
    (row,) = parsed(done)["workloads"]
    assert row["cached"] is True
    assert done.returncode == 0


def test_lookup_hits_with_exit_0_and_the_kernel(tuned: Fettle) -> None:
    done = tuned("lookup", SOFTMAX, "--device", DEVICE, "--json")
    found = parsed(done)
    assert done.returncode == 0
    assert found["match"] == "exact"
    assert found["kernel"]["workload"] == SOFTMAX
    assert found["miss"] == []


def test_lookup_that_misses_exits_3_and_names_the_field(tuned: Fettle) -> None:
    done = tuned("lookup", "softmax rows=8 cols=97 act=f32", "--device", DEVICE, "--json")
    found = parsed(done)
    assert done.returncode == 3
    assert found["match"] == "default"
    assert found["miss"] == [{"field": "workload.cols", "wanted": "97", "nearest": "96"}]


def test_lookup_says_how_to_go_on_after_a_hit_and_after_a_miss(tuned: Fettle) -> None:
    call = f'in Python: fettle.lookup("{SOFTMAX}", "{DEVICE}")'
    assert tuned("lookup", SOFTMAX, "--device", DEVICE).stdout.splitlines()[-1] == call
    other = "softmax rows=8 cols=97 act=f32"
    missed = tuned("lookup", other, "--device", DEVICE, "--cold").stdout
    assert missed.splitlines()[-1] == f'to tune it: fettle tune "{other}" --device {DEVICE} --cold'


def test_lookup_for_a_restricted_device_names_the_limit(tuned: Fettle) -> None:
    found = parsed(tuned("lookup", SOFTMAX, "--device", "cpu,threads=1,isa=portable", "--json"))
    assert [miss["field"] for miss in found["miss"]] == ["device.isa"]


def test_jobs_and_cache_list_what_was_done(tuned: Fettle) -> None:
    (job,) = [j for j in parsed(tuned("jobs", "list", "--json"))["jobs"] if j["trials"]]
    assert job["state"] == "done"
    assert job["trials"] == 6
    assert parsed(tuned("jobs", "show", job["id"], "--json"))["job"] == job["id"]
    assert [k["workload"] for k in parsed(tuned("cache", "list", "--json"))["kernels"]] == [SOFTMAX]
    stats = parsed(tuned("cache", "stats", "--json"))
    assert stats["kernels"] == 1
    assert stats["records"] == 6
    assert tuned("db", "upgrade").returncode == 0


def test_trials_are_exported_as_a_corpus(tuned: Fettle, tmp_path: Path) -> None:
    from pyarrow import parquet

    file = tmp_path / "trials.parquet"
    assert parsed(tuned("cache", "export", "--corpus", str(file), "--no-programs", "--json"))["trials"] == 6
    assert set(parquet.read_table(file, columns=["workload"]).to_pydict()["workload"]) == {SOFTMAX}


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["tune", "softmax rows=0 cols=4 act=f32"], 2, "extent 0"),
        (["tune", "softmax rows=1099511627776 cols=4 act=f32"], 2, "2147483647"),
        (["tune", "softmax rows=8 cols=4 act=f99"], 2, "known formats"),
        (["tune", "matmul m=1 n=8 k=8 act=f32 weight=u4:0"], 2, ":row"),
        (["tune", "frobnicate x=1"], 2, "known operators"),
        (["tune", SOFTMAX, "--trials", "0"], 2, "trials"),
        (["tune", SOFTMAX, "--time", "nan"], 2, "time limit"),
        (["tune", SOFTMAX, "--seed", "-1"], 2, "seed"),
        (["tune", SOFTMAX, "--dim", "rows=8"], 2, "for ONNX models"),
        (["tune", "model.onnx", "--dim", "batch=²"], 2, "NAME=SIZE"),
        (["tune", SOFTMAX, "--device", "tpu"], 3, "installed backends"),
        (["tune", SOFTMAX, "--device", "cpu,threads=0"], 2, "threads"),
        (["tune", SOFTMAX, "--device", "cpu,isa=mmx"], 2, "levels"),
        (["tune", "missing.onnx"], 3, "missing.onnx"),
        (["tune", SOFTMAX, "--store", "nodb://x/y"], 2, "nodb"),
        (["tune", SOFTMAX, "--store", "/dev/null/store.sqlite3"], 1, "/dev/null"),
        (["jobs", "list", "--limit", "0"], 2, "--limit"),
        (["jobs", "show", "nosuchjob"], 3, "nosuchjob"),
        (["cache", "export", "--corpus", "no/such/folder.parquet"], 1, "folder exists"),
        (["lookup", SOFTMAX, "--server", "127.0.0.1:1"], 1, "127.0.0.1:1"),
        (["no-such-command"], 2, "no-such-command"),
    ],
)
def test_bad_input_is_a_clear_error_with_its_exit_code(fresh: Fettle, words: list[str], code: int, hint: str) -> None:
    done = fresh(*words)
    assert done.returncode == code, done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_with_json_is_one_json_object_too(fresh: Fettle) -> None:
    done = fresh("tune", "softmax rows=0 cols=4 act=f32", "--json")
    assert done.returncode == 2
    error = parsed(done)["error"]
    assert error["kind"] == "InvalidWorkload"
    assert "extent 0" in error["message"]
    assert error["message"] in done.stderr


def test_malformed_model_is_refused_by_name(fresh: Fettle, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x00garbage")
    done = fresh("tune", "broken.onnx")
    assert done.returncode == 2
    assert "ONNX" in done.stderr


LARGE = "matmul m=64 n=256 k=256 act=f32 weight=f32"
"""Thousands of schedules: no machine is through with them before it is interrupted."""


ENDLESS = (
    "import fettle.search.stopping as stopping; stopping.LEAST_TRIALS = 10**9; from fettle.cli import main; main()"
)
"""The command line, but a search that has nothing to gain goes on: it is to be interrupted, not to end."""


def interrupted(folder: Path, times: int) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a tuning that gets that many interrupts in the middle of its search."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, "tune", LARGE, "--device", DEVICE, "--trials", "5000", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(folder),
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 120
    while "trials" not in process.stderr.readline():
        assert time.monotonic() < deadline
        assert process.poll() is None
    time.sleep(1.0)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    return process.returncode, json.loads(output)


def test_interrupt_keeps_the_best_so_far_and_exits_130(profiled_folder: Path) -> None:
    code, job = interrupted(profiled_folder, 1)
    assert code == 130
    assert job["state"] == "cancelled"
    assert job["workloads"][0]["verified"] is True


def test_second_interrupt_exits_at_once_and_tuning_again_goes_on(profiled_folder: Path) -> None:
    code, job = interrupted(profiled_folder, 2)
    assert code == 130
    assert job["state"] == "running"  # as a killed process leaves it
    again, resumed = interrupted(profiled_folder, 1)
    assert again == 130
    assert (resumed["job"], resumed["state"]) == (job["job"], "cancelled")
    (row,) = parsed(run_fettle(["jobs", "list", "--json"], profiled_folder))["jobs"]
    assert row["trials"] == resumed["workloads"][0]["trials"]


def test_job_of_a_process_that_is_gone_can_be_cancelled_and_keeps_its_best(profiled_folder: Path) -> None:
    _, job = interrupted(profiled_folder, 2)
    assert parsed(run_fettle(["jobs", "cancel", job["job"], "--json"], profiled_folder))["state"] == "cancelled"
    (row,) = parsed(run_fettle(["jobs", "show", job["job"], "--json"], profiled_folder))["workloads"]
    assert row["verified"] is True


def test_tuning_looking_up_and_running_need_no_compiler(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np, fettle\n"
        f"job = fettle.tune({SOFTMAX!r}, {DEVICE!r}, trials=2)\n"
        f"kernel = fettle.lookup({SOFTMAX!r}, {DEVICE!r}, default=False)\n"
        "x = np.random.default_rng(0).standard_normal((8, 96)).astype(np.float32)\n"
        "y = kernel(x)\n"
        "assert abs(y.sum() - 8) < 1e-4 and kernel.match == 'exact'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path, PATH=""),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_job_that_has_ended_is_not_resumed(tuned: Fettle, tuned_folder: Path) -> None:
    job = json.loads((tuned_folder / "tune.json").read_text())["job"]
    done = tuned("jobs", "resume", job, "--json")
    assert done.returncode == 1
    assert parsed(done)["error"]["kind"] == "Conflict"
    assert f"job {job} is done and cannot be resumed" in done.stderr


def test_plain_terminals_get_a_plain_table(tuned: Fettle) -> None:
    done = tuned("cache", "list", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert SOFTMAX in done.stdout
    assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("words", [("cache", "list"), ("cache", "stats", "--json")])
def test_output_that_cannot_be_written_fails_in_one_line(tuned_folder: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fettle", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tuned_folder),
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "fettle: the output cannot be written: No space left on device\n"
