"""What ``fettle tune`` says of a model, and of a job that breaks."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import onnx
import pytest
from onnx import parser
from rich.console import Console

from fettle.backends.api import Device, Profile
from fettle.backends.npu.backend import NpuBackend
from fettle.cli import main
from fettle.cli.requests import _announce
from fettle.cli.running import run_there
from fettle.graph.errors import Unavailable
from fettle.store.memory import MemoryStore
from fettle.tuning import read_work
from tests.store.samples import spec


def test_a_job_that_breaks_before_any_workload_has_a_result_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: NpuBackend, device: Device) -> Profile:
        raise ValueError("the clock stands still")

    monkeypatch.setattr(NpuBackend, "profile", broken)
    printed = io.StringIO()
    monkeypatch.setattr("fettle.cli.tune.stdout", Console(file=printed, width=200))
    words = ["tune", "softmax rows=8 cols=96 act=f32", "--device", "npu:systolic", "--store", str(tmp_path / "store")]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "the clock stands still" in printed.getvalue()


def test_a_server_that_stays_away_leaves_the_command_that_follows_the_job_later() -> None:
    class Gone:
        def watch(self, job_id: str) -> Iterator[Any]:
            raise Unavailable("the server cannot be reached")

    stored, _ = MemoryStore().create_job(spec())
    with pytest.raises(Unavailable) as told:
        run_there(cast(Any, Gone()), stored, threading.Event(), "tuner:50151")
    assert f"fettle jobs watch {stored.id} --server tuner:50151" in told.value.hint


def test_of_a_model_is_said_how_many_nodes_kernels_do_and_why_not_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = "".join(f"t{i} = Transpose (t{i - 1}) " for i in range(1, 7))
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 23]> g (float[4,4] x) => (float[4,4] y) <float[4,4] c = '
        f"{{{','.join('1' * 16)}}}> {{ w = Transpose (c) a = MatMul (x, w) t0 = Relu (a) {moves} y = Round (t6) }}"
    )
    onnx.save(model, tmp_path / "model.onnx")
    work = read_work(tmp_path / "model.onnx")
    printed = io.StringIO()
    monkeypatch.setattr("fettle.cli.requests.stderr", Console(file=printed, width=200))
    _announce([(node.name, node.reason) for node in work.left_out], work.covered)
    first, second, *reasons = printed.getvalue().splitlines()
    assert first == "kernels do 3 of 9 nodes"
    assert second.startswith("6 node(s) without a kernel")
    (transposed,) = reasons
    assert transposed.startswith("  no workload for operator Transpose: ")
    assert transposed.endswith(" and 2 more")
