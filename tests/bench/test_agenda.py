"""What is to be measured next can be measured: every candidate is legal, and a campaign works the list off."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import attrs
import pytest
from typer.testing import CliRunner

from fettle.backends.api import DeviceText, MeasurePolicy
from fettle.backends.spaces import why_invalid
from fettle.backends.triton import TritonBackend
from fettle.backends.triton.campaign import Campaign
from fettle.backends.triton.results import read_finals, read_trials
from fettle.backends.triton.shortlist import Shortlist
from fettle.backends.triton.targets import TARGETS
from fettle.bench.agenda import QUESTIONS, agenda, schedules
from fettle.bench.gpu import WORKLOADS
from fettle.cli.app import app
from fettle.graph.workload import Workload
from tests.backends.triton.scripted import ScriptedExecutor
from tests.backends.triton.test_gpu import FACTS, FakeDriver

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def h200() -> TritonBackend:
    target = TARGETS["sm_90"]
    driver = FakeDriver()
    driver.facts = attrs.evolve(
        FACTS,
        multiprocessors=target.multiprocessors,
        clock=target.clock,
        l2=target.l2,
        shared_block=target.shared_block,
    )
    return TritonBackend(lambda index: driver)


def test_every_candidate_is_legal_and_none_is_asked_for_twice() -> None:
    backend = h200()
    device = backend.device(DeviceText.parse("triton:0"))
    assert len({question.workload for question in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        space = backend.space(Workload.parse(question.workload), device)
        found = schedules(question, backend, device)
        assert [why_invalid(space, schedule) for schedule in found] == [None] * len(found), question.workload


def test_a_campaign_works_the_agenda_off(tmp_path: Path) -> None:
    """As on the GPU, but with times that are written in advance; candidates are not compiled."""
    backend = h200()
    target, device = (backend.device(DeviceText.parse(text)) for text in ("triton:sm_90", "triton:0"))
    made: list[ScriptedExecutor] = []
    factory = ScriptedExecutor.factory(lambda schedule: 1e-6, made)
    found = agenda(backend, factory(backend, target), QUESTIONS[:4])
    found.write(tmp_path / "agenda.json")
    campaign = Campaign(backend, device, tmp_path / "results", MeasurePolicy(), executor=factory)
    assert campaign.run(Shortlist.read(tmp_path / "agenda.json"), 1e9, lambda text: None)
    assert len(read_finals(tmp_path / "results")) == 4
    asked = sum(len(schedules(question, backend, device)) for question in QUESTIONS[:4])
    assert [r.measurement.ok for r in read_trials(tmp_path / "results")] == [True] * asked


def test_the_session_that_the_documentation_plans_is_one_of_commands_that_exist() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "triton.md").read_text()
    chosen = re.findall(r'fettle bench gpu --only (?:"([^"]+)"|(\S+))', documented)
    assert len(chosen) >= 5
    for quoted, plain in chosen:
        assert any((quoted or plain) in workload for workload in WORKLOADS), quoted or plain
    minutes = [float(m) for m in re.findall(r"^\| (\d+) \| `fettle ", documented, re.MULTILINE)]
    assert 8 < sum(minutes) <= 15, "device time of one session"


def test_the_command_writes_a_shortlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = ScriptedExecutor.factory(lambda schedule: schedule["warps"] * 1e-6, [])
    monkeypatch.setattr("fettle.backends.host.executor.make_executor", factory)
    path = tmp_path / "agenda.json"
    done = CliRunner().invoke(app, ["bench", "agenda", "-o", str(path), "--only", "softmax"])
    assert done.exit_code == 0, done.output
    (entry,) = Shortlist.read(path).entries
    assert entry.predicted_s == tuple(schedule["warps"] * 1e-6 for schedule in entry.schedules)
    assert entry.schedules[0]["block"] == 32768, "the default comes first"
    assert CliRunner().invoke(app, ["bench", "agenda", "-o", str(path), "--only", "nothing"]).exit_code != 0
