"""Campaigns of measuring: in slices, cut off anywhere, imported elsewhere."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import attrs
import pytest

from fettle.backends.api import Basis, DeviceText, MeasurePolicy, Record, Schedule
from fettle.backends.replay.files import read_recording
from fettle.backends.triton import TritonBackend
from fettle.backends.triton.campaign import Campaign, main
from fettle.backends.triton.results import DEVICE as DEVICE_FILE
from fettle.backends.triton.results import FINALS, TRIALS, Machine, read_finals, read_trials
from fettle.backends.triton.shortlist import Entry, Shortlist, entry_of
from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument, NotFound
from fettle.graph.workload import Workload
from fettle.search.campaigns import import_campaign
from fettle.store.lookup import lookup
from fettle.store.memory import MemoryStore
from tests.backends.triton.scripted import ScriptedExecutor, Seconds
from tests.backends.triton.test_gpu import FakeDriver

WORKLOAD = Workload.parse("softmax rows=64 cols=1000 act=f16")
BACKEND = TritonBackend(lambda index: FakeDriver())
DEVICE = BACKEND.device(DeviceText.parse("triton:0"))
DEFAULT = BACKEND.default(WORKLOAD, DEVICE)
OTHERS = tuple(Schedule.of(block=1024, rows=1, warps=warps, stages=1) for warps in (1, 2, 8))
ILLEGAL = Schedule.of(block=48, rows=1, warps=1, stages=1)
SHORTLIST = Shortlist("triton:sm_90", (Entry(str(WORKLOAD), (DEFAULT, *OTHERS, ILLEGAL), (1e-6,) * 5),))


def two_warps_win(schedule: Schedule) -> float:
    return {1: float("inf"), 2: 1e-6}.get(schedule["warps"], 2e-6)


def campaign(folder: Path, made: list[ScriptedExecutor], seconds: Seconds = two_warps_win) -> Campaign:
    ticks = itertools.count()
    return Campaign(
        BACKEND, DEVICE, folder, MeasurePolicy(), executor=ScriptedExecutor.factory(seconds, made),
        clock=lambda: float(next(ticks)),
    )  # fmt: skip


def test_a_session_whose_turn_never_came_is_closed(tmp_path: Path) -> None:
    made: list[ScriptedExecutor] = []
    other = Entry("softmax rows=32 cols=1000 act=f16", (), ())
    both = Shortlist(SHORTLIST.target, (*SHORTLIST.entries, other))
    assert not campaign(tmp_path, made).run(both, 0.0, lambda text: None)
    assert made[0].trials == 1
    assert made[0].opened == 0, "the second workload was prepared while the first was measured"


def test_the_first_slice_writes_down_the_roofs_and_what_had_none(tmp_path: Path) -> None:
    made: list[ScriptedExecutor] = []
    campaign(tmp_path, made).run(SHORTLIST, 0.0, lambda text: None)
    written = json.loads((tmp_path / DEVICE_FILE).read_text())["profile"]
    values = {roof["name"]: roof["value"] for roof in written["roofs"]}
    assert values == {"copy:dram": 1e12, "peak:f16": 1e15, "clock:f16": 1.5e9}
    assert written["missing"] == [["peak:f8", "no such unit"]]
    assert codec.from_data(Machine, {"device": codec.to_data(DEVICE), "profile": written}).profile == made[0].profile()


def test_a_slice_cut_off_while_it_writes_the_roofs_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(path: Path, text: str) -> int:
        path.write_bytes(text[:100].encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut_off)
        with pytest.raises(KeyboardInterrupt):
            campaign(tmp_path, []).run(SHORTLIST, 0.0, lambda text: None)
    campaign(tmp_path, []).run(SHORTLIST, 0.0, lambda text: None)
    assert len(read_trials(tmp_path)) == 1


def test_roofs_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / DEVICE_FILE).write_text("{")
    with pytest.raises(InvalidArgument, match=r"device\.json is not JSON"):
        campaign(tmp_path, []).run(SHORTLIST, 0.0, lambda text: None)


def test_several_shortlists_are_measured_in_order_and_nothing_twice() -> None:
    first = Entry("softmax rows=32 cols=1000 act=f16", OTHERS[:1], (3e-6,))
    again = Entry(str(WORKLOAD), (OTHERS[0], *OTHERS[:2]), (4e-6, 4e-6, 5e-6))
    lists = [Shortlist("triton:sm_90", (first,)), SHORTLIST, Shortlist("triton:sm_90", (again,))]
    joined = Shortlist.joined(lists)
    assert joined.target == "triton:sm_90"
    assert joined.entries == (first, *SHORTLIST.entries)


def test_shortlists_for_different_targets_are_not_joined() -> None:
    with pytest.raises(InvalidArgument, match=r"triton:sm_90 and triton:sm_80"):
        Shortlist.joined([SHORTLIST, SHORTLIST, attrs.evolve(SHORTLIST, target="triton:sm_80")])


def test_slices_go_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    made: list[ScriptedExecutor] = []
    slices = 0
    while not campaign(tmp_path, made).run(SHORTLIST, 0.0, lambda text: None):
        slices += 1
        assert len(read_trials(tmp_path)) == slices, "at least one trial a slice, and with no time only one"
    assert sum(executor.trials for executor in made) == 4, "nothing is measured twice, and the illegal one not at all"
    (final,) = read_finals(tmp_path)
    assert final.records[0].candidate.schedule == DEFAULT
    assert {r.candidate.schedule for r in final.records} == {DEFAULT, OTHERS[1], OTHERS[2]}
    done = campaign(tmp_path, made)
    assert done.run(SHORTLIST, 0.0, lambda text: None)
    assert made[-1].trials == 0


def test_finished_workloads_become_replay_devices(tmp_path: Path) -> None:
    campaign(tmp_path, []).run(SHORTLIST, 1e9, lambda text: None)
    (file,) = (tmp_path / "recordings").iterdir()
    recording = read_recording(file)
    row = recording.find(OTHERS[1])
    assert row is not None
    assert recording.measurement(row).time == pytest.approx(1e-6)


def test_a_line_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    campaign(tmp_path, []).run(SHORTLIST, 2.0, lambda text: None)
    before = read_trials(tmp_path)
    text = (tmp_path / TRIALS).read_text()
    (tmp_path / TRIALS).write_text(text[:-20])
    assert len(read_trials(tmp_path)) == len(before) - 1
    assert campaign(tmp_path, []).run(SHORTLIST, 1e9, lambda text: None)
    assert len(read_trials(tmp_path)) == 5


def test_results_of_two_gpus_do_not_mix(tmp_path: Path) -> None:
    campaign(tmp_path, []).run(SHORTLIST, 1e9, lambda text: None)
    other = attrs.evolve(DEVICE, facts={**dict(DEVICE.facts), "name": "another"}, label="another")
    made = ScriptedExecutor.factory(two_warps_win, [])
    with pytest.raises(InvalidArgument, match="results of A GPU"):
        Campaign(BACKEND, other, tmp_path, MeasurePolicy(), executor=made).run(SHORTLIST, 1.0, lambda text: None)


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished campaign, and the registry knows its backend."""
    campaign(tmp_path, []).run(SHORTLIST, 1e9, lambda text: None)
    monkeypatch.setattr("fettle.search.campaigns.get_backend", lambda name: BACKEND)
    return tmp_path


def test_the_cache_serves_what_was_measured_elsewhere(imported: Path) -> None:
    store = MemoryStore()
    (kernel,) = import_campaign(store, imported)
    assert kernel.schedule == OTHERS[1]
    assert (kernel.best_s, kernel.default_s, kernel.basis) == (1e-6, 2e-6, Basis.MEASURED)
    assert kernel.bound_s == pytest.approx(2 * 2 * 64 * 1000 / 1e12), "the copy that was measured there"
    found = lookup(store, WORKLOAD, DEVICE)
    assert found.match == "exact"
    assert found.kernel == kernel
    assert store.get_artifact(kernel.artifact_sha256).schedule == OTHERS[1]


def test_a_damaged_artifact_is_noticed(imported: Path) -> None:
    for file in (imported / "artifacts").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataLoss):
        import_campaign(MemoryStore(), imported)


def test_finals_that_are_missing_or_no_text_are_named(imported: Path) -> None:
    (imported / FINALS).write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(InvalidArgument, match="line 1: not JSON"):
        import_campaign(MemoryStore(), imported)
    (imported / FINALS).unlink()
    with pytest.raises(NotFound, match="no finals"):
        import_campaign(MemoryStore(), imported)


@pytest.mark.parametrize("change", [{"verified": False}, {"workload": "softmax rows=1 cols=10 act=f16"}])
def test_finals_that_prove_nothing_are_refused(imported: Path, change: dict[str, object]) -> None:
    line = json.loads((imported / FINALS).read_text())
    if "verified" in change:
        line["records"][1]["verified"] = False
    else:
        line["measurements"][0]["basis"] = "predicted"
    (imported / FINALS).write_text(json.dumps(line) + "\n")
    with pytest.raises(InvalidArgument, match="not verified and measured"):
        import_campaign(MemoryStore(), imported)


def test_a_folder_without_a_campaign_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        import_campaign(MemoryStore(), tmp_path)


def test_shortlists_hold_the_default_and_the_best(tmp_path: Path) -> None:
    campaign(tmp_path, []).run(SHORTLIST, 1e9, lambda text: None)
    records: list[Record] = read_trials(tmp_path)
    entry = entry_of(WORKLOAD, records, DEFAULT, top=1)
    assert entry is not None
    assert entry.schedules == (DEFAULT, OTHERS[1])
    path = tmp_path / "shortlist.json"
    found = Shortlist("triton:sm_90", (entry,))
    found.write(path)
    assert Shortlist.read(path) == found
    assert entry_of(WORKLOAD, [r for r in records if not r.measurement.ok], DEFAULT, top=1) is None


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 1, "target": "x", "entries": [{}]}'])
def test_other_files_are_no_shortlists(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(InvalidArgument):
        Shortlist.read(path)
    with pytest.raises(NotFound):
        Shortlist.read(tmp_path / "missing")


def test_without_a_gpu_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SHORTLIST.write(tmp_path / "in.json")
    arguments = ["--in", str(tmp_path / "in.json"), "--out", str(tmp_path / "out"), "--device", "triton:63"]
    assert main(arguments) == 1
    assert "no CUDA GPU" in capsys.readouterr().err
