"""Whatever is wrong with a file, the error says what and where, and nothing else happens."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.replay import files
from fettle.backends.replay.files import parse_recording, read_recording
from fettle.graph.errors import FettleError, InvalidArgument, NotFound, ResourceExhausted
from tests.backends.replay.samples import cache, t4, write

Change = Callable[[dict[str, Any]], object]


def row(number: int, **changes: object) -> Change:
    return lambda document: document["results"][number].update(changes)


def configuration(number: int, **changes: object) -> Change:
    return lambda document: document["results"][number]["configuration"].update(changes)


def measurement(number: int, **changes: object) -> Change:
    return lambda document: document["results"][number]["measurements"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        (lambda d: d.pop("results"), "the document", "neither 'results'"),
        (lambda d: d.update(results=[]), "results", "no results"),
        (lambda d: d.update(results={}), "results", "must be an array, not an object"),
        (lambda d: d.update(results=[7]), "results[0]", "must be an object, not a number"),
        (lambda d: d.update(schema_version="2.0.0"), "schema_version", "not 1.x"),
        (lambda d: d.update(metadata=[]), "metadata", "must be an object"),
        (lambda d: d["metadata"].update(timeunit="fortnights"), "metadata.timeunit", "no unit of time"),
        (lambda d: d["results"][3].pop("configuration"), "results[3]", "'configuration' is missing"),
        (lambda d: d["results"][3].pop("invalidity"), "results[3]", "'invalidity' is missing"),
        (lambda d: d["results"][3].pop("correctness"), "results[3]", "'correctness' is missing"),
        (lambda d: d["results"][3].pop("times"), "results[3]", "'times' is missing"),
        (lambda d: d["results"][3].pop("measurements"), "results[3]", "'measurements' is missing"),
        (lambda d: d["results"][3].pop("objectives"), "results[3]", "'objectives' is missing"),
        (row(3, invalidity="fine"), "results[3].invalidity", "'fine' is none of correct"),
        (row(3, correctness="yes"), "results[3].correctness", "must be a number, not a text"),
        (row(3, objectives=[]), "results[3].objectives", "no objective"),
        (row(3, objectives=["energy"]), "results[3].measurements", "'energy' is missing"),
        (row(3, times={"runtimes": [1.0, "2"]}), "results[3].times.runtimes[1]", "must be a number"),
        (row(3, times={"runtimes": [1.0, -2]}), "results[3].times.runtimes[1]", "positive"),
        (row(3, configuration={"x": 2}), "results[3].configuration", "other parameters than results[0]"),
        (row(3, configuration={}), "results[3].configuration", "other parameters than results[0]"),
        (configuration(3, extra=1), "results[3].configuration", "'extra'"),
        (configuration(3, x="two"), "results[3].configuration.x", "a text, but results[0].configuration.x is a number"),
        (configuration(3, x=True), "results[3].configuration.x", "a truth value"),
        (configuration(3, x=[2]), "results[3].configuration.x", "not an array"),
        (configuration(3, x=None), "results[3].configuration.x", "not null"),
        (configuration(3, x=float("nan")), "results[3].configuration.x", "finite"),
        (configuration(3, x=10**400), "results[3].configuration.x", "2^53"),
        (configuration(3, x=1, y=1), "results[3].configuration", "the same configuration as results[0]"),
        (measurement(3, value="fast"), "results[3].measurements[0].value", "must be a number, not a text"),
        (measurement(3, value=0), "results[3].measurements[0].value", "positive"),
        (measurement(3, value=float("inf")), "results[3].measurements[0].value", "finite"),
        (measurement(3, unit="GFLOP/s"), "results[3].measurements[0].unit", "no unit of time"),
        (measurement(3, unit="s"), "results[3].measurements[0]", "but first it was time in ms"),
        (measurement(3, unit=5), "results[3].measurements[0].unit", "must be a text"),
        (
            lambda d: [r.update(invalidity="compile", measurements=[]) for r in d["results"]],
            "results",
            "no configuration is valid",
        ),
    ],
)
def test_t4_error_names_the_place(change: Change, place: str, reason: str, tmp_path: Path) -> None:
    document = t4()
    change(document)
    path = write(tmp_path / "bad.json.gz", document)
    with pytest.raises(InvalidArgument, match=re.escape(reason)) as caught:
        read_recording(path)
    assert str(caught.value).startswith(f"{path}: {place}: ")


@pytest.mark.parametrize(
    ("change", "place", "reason"),
    [
        (lambda d: d.pop("tune_params_keys"), "the document", "'tune_params_keys' is missing"),
        (lambda d: d.update(tune_params_keys=[]), "tune_params_keys", "no parameters"),
        (lambda d: d.update(tune_params_keys=["x", 5]), "tune_params_keys[1]", "must be a text"),
        (lambda d: d.update(tune_params_keys=["x", "z"]), "cache.1,1,plain", "'z' is missing"),
        (lambda d: d.update(tune_params_keys=["x"]), "cache.1,2,plain", "the same configuration as cache.1,1,plain"),
        (lambda d: d.update(cache={}), "cache", "no results"),
        (lambda d: d.update(cache=[]), "cache", "must be an object"),
        (lambda d: d.update(objective="GFLOP/s"), "objective", "no time"),
        (lambda d: d["cache"]["4,2,plain"].pop("time"), "cache.4,2,plain", "'time' is missing"),
        (lambda d: d["cache"]["4,2,plain"].update(time="Oops"), "cache.4,2,plain.time", "'Oops' is none of"),
        (lambda d: d["cache"]["4,2,plain"].update(times=[1, None]), "cache.4,2,plain.times[1]", "not null"),
        (lambda d: d["cache"]["4,2,plain"].update(time=None), "cache.4,2,plain.time", "not null"),
        (lambda d: [e.update(time="InvalidConfig") for e in d["cache"].values()], "cache", "no configuration is valid"),
    ],
)
def test_cache_error_names_the_place(change: Change, place: str, reason: str, tmp_path: Path) -> None:
    document = cache()
    change(document)
    path = write(tmp_path / "bad.json", document)
    with pytest.raises(InvalidArgument, match=re.escape(reason)) as caught:
        read_recording(path)
    assert str(caught.value).startswith(f"{path}: {place}: ")


def test_json_error_names_line_and_column() -> None:
    text = json.dumps(t4(), indent=1).replace('"wide"', '"wide', 1)
    line = next(n for n, content in enumerate(text.split("\n"), 1) if '"wide' in content and '"wide"' not in content)
    with pytest.raises(InvalidArgument, match=rf"line {line} column") as caught:
        parse_recording(text.encode())
    assert caught.value.details["line"] == str(line)


@pytest.mark.parametrize("end", ["", ",", ",\n"])
def test_open_cache_file_is_explained(end: str) -> None:
    text = json.dumps(cache())[:-2] + end  # what Kernel Tuner leaves when a run is cut off
    with pytest.raises(InvalidArgument, match="not finished leaves its cache file open"):
        parse_recording(text.encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"3", b"[" * 100_000, b"1" * 10_000, b'{"results": [1, }'])
def test_what_is_no_recording_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_recording(text)


def test_text_that_is_not_utf8_names_the_byte() -> None:
    with pytest.raises(InvalidArgument, match="byte 9"):
        parse_recording(b'{"results\xff": 1}')


def test_truncated_gzip_names_the_byte_where_it_ends() -> None:
    packed = gzip.compress(json.dumps(t4()).encode())
    with pytest.raises(InvalidArgument, match=f"end early, at byte {len(packed) - 20}"):
        parse_recording(packed[:-20])


def test_damaged_gzip_is_refused() -> None:
    packed = bytearray(gzip.compress(json.dumps(t4()).encode()))
    packed[-6] ^= 0xFF  # of the checksum
    with pytest.raises(InvalidArgument, match="damaged gzip data"):
        parse_recording(bytes(packed))


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_any_damage_gives_a_recording_or_a_typed_error(at: int, noise: bytes) -> None:
    text = json.dumps(t4()).encode()
    at %= len(text)
    for data in (text[:at] + noise + text[at + len(noise) :], gzip.compress(text)[:at] + noise):
        with contextlib.suppress(FettleError):
            assert parse_recording(data).rows


def test_size_limit_holds_for_what_a_gzip_file_unpacks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {**t4(), "padding": " " * 100_000}
    small, plain = write(tmp_path / "small.json.gz", document), write(tmp_path / "plain.json", document)
    assert small.stat().st_size < 10_000
    monkeypatch.setattr(files, "MAX_BYTES", 50_000)
    for path in (small, plain):
        with pytest.raises(ResourceExhausted, match="50000 bytes"):
            read_recording(path)


def test_missing_files_folders_and_pipes_are_not_found(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(NotFound):
            read_recording(path)
