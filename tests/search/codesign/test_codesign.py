"""Co-design: the front is what no design beats; search finds it among few designs; results are saved and drawn."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from fettle.backends.npu.systolic.hardware import Systolic
from fettle.cli.app import main
from fettle.graph.errors import InvalidDevice, Unsupported
from fettle.graph.workload import Workload
from fettle.search.codesign import front as codesign
from fettle.search.codesign.area import square_millimetres
from fettle.search.codesign.front import Design, evaluate, front, search

PRODUCT = "matmul m=64 n=128 k=128 act=i8 weight=i8"
FIXED = {"bandwidth": 64, "vector": 64, "mesh": "1x1", "sram": 64}


def design(name: str, *objectives: float) -> Design:
    return Design(name, {}, *objectives)


def test_the_front_leaves_out_what_is_beaten() -> None:
    one, two, three = design("a", 1.0, 9.0, 1.0), design("b", 2.0, 3.0, 1.0), design("c", 3.0, 3.0, 2.0)
    twin = design("d", 2.0, 3.0, 1.0)
    assert [d.device for d in front([three, two, twin, one])] == ["a", "b"]


def test_a_small_space_is_searched_to_its_front() -> None:
    workloads = [Workload.parse(PRODUCT)]
    every = [
        found
        for rows, cols in itertools.product(codesign.CHOICES["rows"], codesign.CHOICES["cols"])
        if (found := evaluate(workloads, {**FIXED, "rows": rows, "cols": cols}))
    ]
    best = {d.device for d in front(every)}
    found = {d.device for d in front(search(workloads, 120, fixed=FIXED, seed=1))}
    assert len(found & best) >= 0.8 * len(best)


def test_area_grows_with_what_there_is() -> None:
    base = square_millimetres(Systolic())
    assert square_millimetres(Systolic(rows=256)) > base
    assert square_millimetres(Systolic(sram=2048)) > base
    assert square_millimetres(Systolic(pe="bitserial")) < base
    one, four = square_millimetres(Systolic(vector=1)), square_millimetres(Systolic(vector=1, mesh="2x2"))
    assert four == pytest.approx(4 * one, rel=0.01)


def test_a_workload_that_no_design_runs_is_named() -> None:
    with pytest.raises(Unsupported, match="layernorm"):
        search([Workload.parse("layernorm rows=8 cols=8 act=f32")], 4)


def test_a_fixed_value_out_of_range_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidDevice, match="bandwidth=0"):
        search([Workload.parse("matmul m=8 n=8 k=8 act=i8 weight=i8")], 4, fixed={"bandwidth": 0})
    assert capfd.readouterr().err == ""


def test_the_command_saves_and_draws(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["codesign", PRODUCT, "--trials", "12", "--fix", "bandwidth=64,mesh=1x1", "--json"]
    words += ["--out", str(tmp_path / "designs.json"), "--plot", str(tmp_path / "front.svg")]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    saved = json.loads((tmp_path / "designs.json").read_text())
    assert saved["front"] == printed["front"]
    assert len(saved["designs"]) == printed["tried"]
    assert {d["values"]["bandwidth"] for d in saved["designs"]} == {64}
    assert "<svg" in (tmp_path / "front.svg").read_text()
