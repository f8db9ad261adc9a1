"""Co-design: the front is what no design beats; search finds it among few designs; results are saved and drawn."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle.backends.npu.systolic.hardware import Systolic
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.workload import Workload
from fettle.search.codesign.area import square_millimetres
from fettle.search.codesign.front import Design, evaluate, front, search
from fettle.search.codesign.spaces import AIM, SYSTOLIC, DesignSpace, design_space

PRODUCT = "matmul m=64 n=128 k=128 act=i8 weight=i8"
FIXED = {"bandwidth": 64, "vector": 64, "mesh": "1x1", "sram": 64}

GEMV = "matmul m=1 n=512 k=1024 act=bf16 weight=bf16"
MEMORY = {"channels": 8, "banks": 16, "lanes": 16, "buffer": 2048}


def design(name: str, *objectives: float) -> Design:
    return Design(name, {}, *objectives)


def test_the_front_leaves_out_what_is_beaten() -> None:
    one, two, three = design("a", 1.0, 9.0, 1.0), design("b", 2.0, 3.0, 1.0), design("c", 3.0, 3.0, 2.0)
    twin = design("d", 2.0, 3.0, 1.0)
    assert [d.device for d in front([three, two, twin, one])] == ["a", "b"]


def test_a_small_space_is_searched_to_its_front() -> None:
    workloads = [Workload.parse(PRODUCT)]
    every = [
        evaluate(workloads, {**FIXED, "rows": rows, "cols": cols})
        for rows, cols in itertools.product(SYSTOLIC.choices["rows"], SYSTOLIC.choices["cols"])
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


@pytest.mark.parametrize("name", AIM.choices)
def test_area_of_a_memory_grows_with_what_there_is(name: str) -> None:
    areas = [AIM.mm2(AIM.device({**MEMORY, "buffer": 8192, name: value})) for value in AIM.choices[name]]
    assert areas == sorted(set(areas))
    assert name not in ("channels", "banks") or areas[1] == pytest.approx(2 * areas[0], rel=0.02)


def test_a_front_of_memories_has_no_design_that_another_beats() -> None:
    designs = search([Workload.parse(GEMV)], 24, space=AIM, seed=3)
    best = front(designs)
    assert 1 < len(best) < len(designs)
    for one, other in itertools.product(best, designs):
        pairs = [(getattr(other, name), getattr(one, name)) for name in ("seconds", "mm2", "joules")]
        assert not (all(b <= a for b, a in pairs) and any(b < a for b, a in pairs))


def test_combinations_without_sense_are_not_tried() -> None:
    assert not AIM.sensible({**MEMORY, "lanes": 64, "buffer": 512})
    for lanes, buffer in itertools.product(AIM.choices["lanes"], AIM.choices["buffer"]):
        values = {**MEMORY, "lanes": lanes, "buffer": buffer}
        if AIM.sensible(values):
            assert dict(AIM.device(values).limits).get("buffer", 2048) == buffer
        else:
            with pytest.raises(InvalidDevice, match="fewer than 8 columns"):
                AIM.device(values)
    with pytest.raises(Unsupported, match="makes sense"):
        search([Workload.parse(GEMV)], 4, space=AIM, fixed={"lanes": 64, "buffer": 512})


def test_only_known_devices_are_designed() -> None:
    assert design_space("npu:systolic") is SYSTOLIC
    for text in ("pim:hbm-pim", "pim:gddr6-aim,banks=8", "cpu", ""):
        with pytest.raises(InvalidArgument, match="no designs of"):
            design_space(text)


@pytest.mark.parametrize(
    ("workload", "space"),
    [("layernorm rows=8 cols=8 act=f32", SYSTOLIC), ("rmsnorm rows=8 cols=8 act=f32", AIM)],
)
def test_a_workload_that_no_design_runs_is_named(workload: str, space: DesignSpace) -> None:
    with pytest.raises(Unsupported, match=workload.split(maxsplit=1)[0]):
        search([Workload.parse(workload)], 4, space=space)


@pytest.mark.parametrize(
    ("space", "fixed", "reason"),
    [
        (SYSTOLIC, {"bandwidth": 0}, "bandwidth=0"),
        (AIM, {"banks": 12}, "banks=12"),
        (AIM, {"lanes": "many"}, "lanes=many"),
    ],
)
def test_a_fixed_value_out_of_range_is_said_once(
    space: DesignSpace, fixed: dict[str, int | str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidDevice, match=reason):
        search([Workload.parse("matmul m=8 n=8 k=8 act=i8 weight=i8")], 4, space=space, fixed=fixed)
    assert capfd.readouterr().err == ""


@pytest.fixture
def designed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs ``fettle codesign`` with words and reads what it prints."""

    def run(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["fettle", "codesign", *words, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_the_command_saves_and_draws(designed: Callable[..., Any], tmp_path: Path) -> None:
    words = [PRODUCT, "--trials", "12", "--fix", "bandwidth=64,mesh=1x1"]
    words += ["--out", str(tmp_path / "designs.json"), "--plot", str(tmp_path / "front.svg")]
    printed = designed(*words)
    saved = json.loads((tmp_path / "designs.json").read_text())
    assert saved["front"] == printed["front"]
    assert len(saved["designs"]) == printed["tried"]
    assert {d["values"]["bandwidth"] for d in saved["designs"]} == {64}
    assert "<svg" in (tmp_path / "front.svg").read_text()


def test_the_command_designs_memories(designed: Callable[..., Any]) -> None:
    printed = designed(GEMV, "--device", "pim:gddr6-aim", "--trials", "6", "--fix", "channels=8")
    assert printed["front"]
    for found in printed["front"]:
        assert found["device"].startswith("pim:gddr6-aim")
        assert found["values"].keys() == AIM.choices.keys()
        assert found["values"]["channels"] == 8
