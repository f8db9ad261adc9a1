"""A space is recorded as it is; what a recording says can be searched and judged again."""

from __future__ import annotations

from pathlib import Path

from fettle.backends.api import DeviceText, Outcome
from fettle.backends.replay import ReplayBackend
from fettle.backends.replay.files import read_recording, write_document
from fettle.backends.replay.t4 import t4_document
from fettle.bench.recording import record_space
from fettle.graph.workload import Workload
from tests.backends.replay import samples

RECORDED = Workload.of("recorded")


def test_every_schedule_is_recorded_once_the_default_first(tmp_path: Path) -> None:
    path = samples.write(tmp_path / "a.json", samples.t4())
    backend = ReplayBackend()
    device = backend.device(DeviceText("replay", str(path)))
    records = record_space(backend, RECORDED, device, schedules=100, rounds=3, seed=0)
    assert records[0].candidate.schedule == backend.default(RECORDED, device)
    assert len({r.candidate.schedule for r in records}) == len(records) == len(samples.TIMES)
    assert sum(not r.measurement.ok for r in records) == len(samples.BROKEN)
    for record in records:
        if record.measurement.ok:
            assert len(record.measurement.samples) == 3
            assert record.measurement.time == min(record.measurement.samples)
    write_document(tmp_path / "b.json.gz", t4_document(records, created=0.0, device_name="Paper"))
    again = read_recording(tmp_path / "b.json.gz")
    assert (again.workload, again.device) == ("recorded", device)
    assert {row.outcome for row in again.rows} == {Outcome.OK, Outcome.COMPILE_ERROR, Outcome.RUN_ERROR}
