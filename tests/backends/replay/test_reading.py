"""T4 and Kernel Tuner cache files become the same recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.backends.api import Basis, Outcome, Schedule
from fettle.backends.replay.files import parse_recording, read_recording
from fettle.backends.replay.recording import Recording
from tests.backends.replay.samples import BROKEN, TIMES, cache, t4, write


def parse(document: Any) -> Recording:
    return parse_recording(json.dumps(document).encode())


@pytest.fixture(params=["t4.json", "t4.json.gz", "cache.json", "cache.json.gz"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Recording:
    document = t4() if request.param.startswith("t4") else cache()
    return read_recording(write(tmp_path / request.param, document))


def test_rows_keep_the_order_and_the_objective_of_the_file(recording: Recording) -> None:
    assert [(row.values[0], row.values[1]) for row in recording.rows] == list(TIMES)
    for (x, y), row in zip(TIMES, recording.rows, strict=True):
        assert row.objective == (None if (x, y) in BROKEN else TIMES[x, y])
    assert recording.unit == "ms"
    assert recording.optimum == 2.0
    assert recording.first_valid == 1


def test_parameters_have_sorted_numeric_choices_and_categories(recording: Recording) -> None:
    assert [(p.name, p.choices) for p in recording.parameters] == [
        ("x", (1, 2, 4, 8, 16)),
        ("y", (1, 2, 3)),
        ("kind", ("plain", "wide")),
    ]
    assert [p.is_numeric for p in recording.parameters] == [True, True, False]


def test_trial_has_the_recorded_samples_in_seconds_and_the_recorded_objective_as_its_time(recording: Recording) -> None:
    row = recording.find(Schedule.of(x=4, y=2, kind="plain"))
    assert row is not None
    measurement = recording.measurement(row)
    assert measurement.basis is Basis.REPLAYED
    assert measurement.samples == pytest.approx((2.25e-3, 1.75e-3, 2.125e-3, 1.875e-3))
    assert measurement.time == 2.0 * 1e-3


def test_failures_keep_their_kind(recording: Recording) -> None:
    outcomes = {(row.values[0], row.values[1]): row.outcome for row in recording.rows if row.objective is None}
    assert outcomes == {(1, 1): Outcome.COMPILE_ERROR, (16, 3): Outcome.RUN_ERROR}
    failed = recording.measurement(recording.rows[0])
    assert failed.samples == ()
    assert failed.message == "CompilationFailedConfig"
    assert failed.basis is Basis.REPLAYED


def test_gzip_and_plain_files_of_one_text_are_one_device(tmp_path: Path) -> None:
    plain, packed = write(tmp_path / "a.json", t4()), write(tmp_path / "b.json.gz", t4())
    assert read_recording(plain).digest == read_recording(packed).digest
    assert read_recording(plain).digest != read_recording(write(tmp_path / "c.json", cache())).digest


def test_two_gzip_members_are_one_text(tmp_path: Path) -> None:
    import gzip

    text = json.dumps(t4()).encode()
    assert len(parse_recording(gzip.compress(text[:100]) + gzip.compress(text[100:])).rows) == len(TIMES)


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("", 1e-3), ("ms", 1e-3), ("miliseconds", 1e-3), ("s", 1.0), ("seconds", 1.0), ("us", 1e-6), ("µs", 1e-6)],
)
def test_units_of_the_objective(unit: str, seconds: float) -> None:
    document = t4()
    for result in document["results"]:
        result["measurements"][0]["unit"] = unit
    recording = parse(document)
    assert recording.scale == seconds
    assert recording.measurement(recording.rows[1]).time == recording.rows[1].objective * seconds  # type: ignore[operator]


def test_unit_left_empty_is_the_time_unit_of_the_file() -> None:
    document = t4()
    document["metadata"]["timeunit"] = "seconds"
    recording = parse(document)
    assert recording.unit == "s"
    assert recording.measurement(recording.rows[1]).samples[0] == recording.rows[1].objective + 0.25  # type: ignore[operator]


def test_the_first_objective_counts_wherever_it_stands_among_the_measurements() -> None:
    document = t4()
    for result in document["results"]:
        result["measurements"].insert(0, {"name": "GFLOP/s", "value": 12.5, "unit": "GFLOP/s"})
        result["objectives"].append("GFLOP/s")
    assert parse(document).optimum == 2.0


def test_result_that_was_wrong_is_a_failure() -> None:
    document = t4()
    document["results"][4]["correctness"] = 0
    document["results"][5]["invalidity"] = "correctness"
    document["results"][6]["invalidity"] = "timeout"
    document["results"][7]["invalidity"] = "constraints"
    found = [row.outcome for row in parse(document).rows[4:8]]
    assert found == [Outcome.WRONG_RESULT, Outcome.WRONG_RESULT, Outcome.TIMEOUT, Outcome.INVALID]


def test_row_without_samples_has_its_objective_as_the_only_one() -> None:
    document = t4()
    del document["results"][1]["times"]["runtimes"]
    recording = parse(document)
    measurement = recording.measurement(recording.rows[1])
    assert measurement.samples == (measurement.time,)


def test_column_of_whole_and_fractional_numbers_is_fractional() -> None:
    document = t4()
    for result in document["results"]:
        if result["configuration"]["y"] == 3:
            result["configuration"]["y"] = 2.5
    y = parse(document).parameters[1]
    assert y.choices == (1.0, 2.0, 2.5)
    assert {type(choice) for choice in y.choices} == {float}


def test_truth_values_are_categories() -> None:
    document = t4()
    for result in document["results"]:
        result["configuration"]["kind"] = result["configuration"]["kind"] == "wide"
    kind = parse(document).parameters[2]
    assert kind.choices == (False, True)
    assert not kind.is_numeric
