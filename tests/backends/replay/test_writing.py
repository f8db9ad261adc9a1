"""What a job measured comes back from a T4 file as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Basis, Candidate, Device, Measurement, MeasurePolicy, Outcome, Record, Schedule
from fettle.backends.replay.files import parse_recording, read_recording, write_document
from fettle.backends.replay.t4 import t4_document
from fettle.graph.errors import InvalidArgument, NotFound
from fettle.graph.workload import Workload

WORKLOAD = Workload.parse("softmax rows=8 cols=96 act=f32")
DEVICE = Device("cpu", facts={"model": "paper"}, label="Paper CPU")

positive = st.floats(1e-12, 1e6)
outcomes = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.OK])


@st.composite
def measurements(draw: st.DrawFn) -> Measurement:
    if draw(st.booleans()):
        samples = draw(st.lists(positive, min_size=1, max_size=5))
        energy = draw(st.none() | positive)
        return Measurement(Outcome.OK, tuple(samples), energy=energy)
    return Measurement.failure(draw(outcomes), draw(st.text(max_size=20)))


def record(schedule: Schedule, measurement: Measurement) -> Record:
    candidate = Candidate(WORKLOAD, DEVICE, schedule)
    return Record(candidate, measurement, MeasurePolicy(), verified=measurement.ok)


schedules = st.builds(
    Schedule.of, tile=st.integers(1, 64), share=st.floats(0, 1), layout=st.sampled_from("ab"), pack=st.booleans()
)


@given(st.lists(st.tuples(schedules, measurements()), min_size=1, max_size=8, unique_by=lambda pair: pair[0]))
def test_trials_come_back_bit_for_bit(trials: list[tuple[Schedule, Measurement]]) -> None:
    good = (Schedule.of(tile=65, share=0.5, layout="a", pack=True), Measurement(Outcome.OK, (0.5,)))
    records = [record(schedule, measurement) for schedule, measurement in (*trials, good)]
    document = t4_document(records, created=0.0, device_name=DEVICE.label)
    recording = parse_recording(json.dumps(document, allow_nan=False).encode())
    assert recording.device_name == "Paper CPU"
    assert len(recording.rows) == len(records)
    for number, written in enumerate(records):
        assert recording.schedule(number) == written.candidate.schedule
        again = recording.measurement(recording.rows[number])
        expected = attrs.evolve(
            written.measurement,
            basis=Basis.REPLAYED,
            objective=written.measurement.median if written.measurement.ok else None,
        )
        assert again == expected


def test_document_has_the_keys_that_the_schema_requires() -> None:
    records = [
        record(Schedule.of(tile=1), Measurement(Outcome.OK, (2.0, 1.0, 3.0), energy=0.25)),
        record(Schedule.of(tile=2), Measurement.failure(Outcome.CRASH, "killed by signal 11")),
    ]
    document = t4_document(records, created=1_700_000_000.0, device_name="Paper CPU")
    assert document["schema_version"] == "1.0.0"
    assert document["metadata"]["timeunit"] == "seconds"
    assert document["metadata"]["workload"] == str(WORKLOAD)
    good, bad = document["results"]
    for result in (good, bad):
        assert {"configuration", "times", "invalidity", "correctness", "timestamp"} <= result.keys()
        assert result["timestamp"] == "2023-11-14 22:13:20+00:00"
    assert good["measurements"] == [
        {"name": "time", "value": 2.0, "unit": "s"},
        {"name": "energy", "value": 0.25, "unit": "J"},
    ]
    assert (good["invalidity"], good["correctness"]) == ("correct", 1)
    assert (bad["invalidity"], bad["correctness"]) == ("runtime", 0)
    assert bad["measurements"][0]["value"] == "crash"
    assert not math.isfinite(records[1].measurement.time)


def test_equal_trials_give_equal_files(tmp_path: Path) -> None:
    document = t4_document([record(Schedule.of(tile=1), Measurement(Outcome.OK, (1.0,)))], created=0.0)
    for name in ("a.json.gz", "b.json.gz", "c.json"):
        write_document(tmp_path / name, document)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert read_recording(tmp_path / "a.json.gz").digest == read_recording(tmp_path / "c.json").digest


def test_message_of_undecodable_output_is_written_and_read(tmp_path: Path) -> None:
    bad = record(Schedule.of(tile=1), Measurement.failure(Outcome.CRASH, "\udcff µ \0"))
    good = record(Schedule.of(tile=2), Measurement(Outcome.OK, (1.0,)))
    write_document(tmp_path / "a.json", t4_document([bad, good], created=0.0))
    assert read_recording(tmp_path / "a.json").rows[0].message == "\udcff µ \0"


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none/a\.json cannot be written"):
        write_document(tmp_path / "none" / "a.json", {})


def test_the_workload_and_the_device_come_back() -> None:
    document = t4_document([record(Schedule.of(tile=1), Measurement(Outcome.OK, (1.0,)))], created=0.0)
    recording = parse_recording(json.dumps(document).encode())
    assert recording.workload == str(WORKLOAD)
    assert recording.device == DEVICE
    for other in ("A4000", {"name": "A4000"}, 7):  # what other people's files may hold there
        document["metadata"] |= {"device": other, "workload": 7}
        foreign = parse_recording(json.dumps(document).encode())
        assert (foreign.workload, foreign.device) == ("", None)
    document["metadata"]["device"] = {"backend": 7, "facts": 3}
    with pytest.raises(InvalidArgument, match=r"metadata\.device"):
        parse_recording(json.dumps(document).encode())
