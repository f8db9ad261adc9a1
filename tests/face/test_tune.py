"""What ``fettle tune`` says of a job that breaks."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fettle.backends.api import Device, Profile
from fettle.backends.npu.backend import NpuBackend
from fettle.cli import main


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
