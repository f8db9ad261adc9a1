"""Recordings in the part of a new device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fettle.bench.newdevice import NewDevice, bench_new_devices
from fettle.cli.app import app
from tests.backends.replay.samples import large, t4, write


def changed(path: Path, factor: float, offset: float = 0.0) -> Path:
    """The recording of :func:`large` on a device where what took ``t`` takes ``factor · t + offset``."""
    document = json.loads(large(path).read_text())
    for row in document["results"]:
        if row["correctness"]:
            row["measurements"][0]["value"] = factor * row["measurements"][0]["value"] + offset
    return write(path, document)


def test_each_recording_with_a_partner_is_predicted_once(tmp_path: Path) -> None:
    files = [large(tmp_path / "one.json"), changed(tmp_path / "two.json", 2.0), write(tmp_path / "other.json", t4())]
    found = bench_new_devices(files, 10, 2)
    assert [device.space.split("/")[1] for device in found] == ["one", "two"]
    for device in found:
        assert device.known == 1
        assert device.nearest == pytest.approx(1.0, abs=1e-4)  # the same order, but for rounding
        assert device.lowest <= device.ours <= 1.0
        assert device.ours > 0.9
        assert device.ceiling is not None
        assert device.ceiling > 0.99


def test_ten_references_turn_the_order_of_a_known_device_round(tmp_path: Path) -> None:
    (placed, _) = bench_new_devices([large(tmp_path / "one.json"), changed(tmp_path / "two.json", -1.0, 20.0)], 10, 1)
    assert placed.nearest == pytest.approx(-1.0, abs=1e-4)
    assert placed.ours > 0.5


def test_aims_are_a_tenth_above_each_rival_unless_the_ceiling_is_lower() -> None:
    def met(ours: float, nearest: float, alone: float, same: float, ceiling: float | None = None) -> list[bool]:
        return [mark.met for mark in NewDevice("a", 1, ours, ours, nearest, alone, "", same, "", ceiling).marks()]

    assert met(0.8, 0.6, 0.65, 0.65) == [True, True, True]
    assert met(0.8, 0.75, 0.65, 0.65) == [False, True, True]
    assert met(0.8, 0.6, 0.75, 0.65) == [True, False, True]
    assert met(0.8, 0.6, 0.65, 0.75) == [True, True, False]
    assert met(0.97, 0.95, 0.95, 0.95, ceiling=0.965) == [True, True, True]


def test_the_search_benchmark_prints_them(tmp_path: Path) -> None:
    large(tmp_path / "one.json")
    changed(tmp_path / "two.json", 2.0)

    def output(*options: str) -> str:
        done = CliRunner().invoke(
            app, ["bench", "search", str(tmp_path), "--only", "random", "--seeds", "1", "--overhead", "0", *options]
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    printed = json.loads(output("--json"))
    assert len(printed["new_devices"]) == 2
    assert sum("new device" in mark["aim"] for mark in printed["marks"]) == 6
    assert json.loads(output("--references", "0", "--json"))["new_devices"] == []
    output()  # the table is drawn
