"""What the proxy's benchmark reports."""

from __future__ import annotations

import json
import sys

import pytest

from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.bench.proxy import bench_proxy
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload

SMALL = "matmul m=1 n=256 k=1024 act=bf16 weight=bf16"


def test_every_schedule_is_either_shown_or_predicted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "proxy", SMALL, "--device", "pim:gddr6-aim,channels=2", "--shown", "20", "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    row = json.loads(capsys.readouterr().out)
    backend, device = resolve_device("pim:gddr6-aim,channels=2")
    assert row["shown"] == 20
    assert row["shown"] + row["held_out"] == enumerate_space(backend.space(Workload.parse(SMALL), device)).size
    assert 0.0 < row["mean_error"] <= row["max_error"] < 1.0
    assert row["speedup"] == pytest.approx(row["simulated_s"] / row["predicted_s"])


def test_there_must_be_a_model_and_something_left_to_predict() -> None:
    backend, device = resolve_device("pim:gddr6-aim,channels=1")
    with pytest.raises(InvalidArgument, match="none to predict"):
        bench_proxy(backend, Workload.parse("matmul m=1 n=16 k=64 act=bf16 weight=bf16"), device, 100_000)
    backend, device = resolve_device("cpu,threads=1")
    with pytest.raises(Unsupported, match="no model"):
        bench_proxy(backend, Workload.parse("matmul m=1 n=64 k=64 act=f32 weight=f32"), device, 20)
