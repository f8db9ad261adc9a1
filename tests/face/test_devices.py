"""What ``fettle devices`` says of roofs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from fettle.backends.api import Device, Profile, Roof
from fettle.backends.npu.backend import NpuBackend
from fettle.cli import main

ROOFS = (Roof("read:dram", 4.8e12), Roof("copy:dram", 4.2e12), Roof("peak:f16", 7.5e14), Roof("clock:f16", 1.755e9))


@pytest.fixture(autouse=True)
def _profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def profile(self: NpuBackend, device: Device) -> Profile:
        return Profile(device.key, ROOFS, (("peak:f8", "no such unit"),))

    monkeypatch.setattr(NpuBackend, "profile", profile)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fettle", "devices", "npu:systolic", "--profile", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0


def test_roofs_are_printed_in_their_units_and_missing_ones_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr("fettle.cli.devices.stdout", Console(file=printed, width=200))
    run(monkeypatch, "--store", str(tmp_path / "store"))
    for text in ("4800 GB/s", "4200 GB/s", "7.5e+05 Gop/s", "1.755 GHz"):
        assert text in printed.getvalue()
    assert "peak:f8, not measured │ no such unit" in " ".join(printed.getvalue().split())


def test_as_json_roofs_and_missing_ones_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--store", str(tmp_path / "store"), "--json")
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert {roof["name"]: roof["value"] for roof in device["roofs"]} == {roof.name: roof.value for roof in ROOFS}
    assert device["missing_roofs"] == {"peak:f8": "no such unit"}


@pytest.mark.parametrize("command", ["backends", "devices"])
def test_a_plugin_that_cannot_list_its_devices_is_named_and_hides_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def broken(self: NpuBackend) -> Sequence[Device]:
        raise OSError("the driver does not answer")  # no error of the system: it has no number

    monkeypatch.setattr(NpuBackend, "devices", broken)
    problems = io.StringIO()
    monkeypatch.setattr("fettle.cli.devices.stderr", Console(file=problems, width=200))
    monkeypatch.setattr(sys, "argv", ["fettle", command, "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "its devices cannot be listed: OSError: the driver does not answer" in told + problems.getvalue()
    assert "pim:gddr6-aim" in told
