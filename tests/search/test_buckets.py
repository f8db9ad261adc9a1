"""Length buckets: as few schedules as there can be, and the stated loss is kept."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.registry import resolve_device
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.search.buckets import cover, length_buckets


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]))
def test_no_smaller_set_of_schedules_keeps_the_loss(seed: int, loss: float) -> None:
    seconds = np.random.default_rng(seed).uniform(1.0, 2.0, (6, 5))
    rows, served = cover(seconds, loss)
    limit = (1.0 + loss) * seconds.min(axis=0)
    assert all(seconds[row, column] <= limit[column] for column, row in enumerate(served))
    for fewer in itertools.combinations(range(6), len(rows) - 1):
        assert not fewer or (seconds[list(fewer)].min(axis=0) > limit).any()


def test_every_length_is_served_within_the_loss() -> None:
    backend, device = resolve_device("npu:systolic,rows=16,cols=16,sram=64")
    workload = Workload.parse("matmul m=1 n=64 k=64 act=i8 weight=i8")
    lengths = [1, 8, 16, 33, 64, 100]
    tight = length_buckets(backend, device, workload, "m", lengths, loss=0.0, samples=12)
    loose = length_buckets(backend, device, workload, "m", lengths, loss=1.0, samples=12)
    for buckets, loss in ((tight, 0.0), (loose, 1.0)):
        assert sorted(length for b in buckets for length in b.lengths) == lengths
        assert all(b.loss <= loss for b in buckets)
    assert len(loose) <= len(tight)
    with pytest.raises(InvalidArgument):
        length_buckets(backend, device, workload, "m", [], loss=0.1)


def test_the_command_prints_which_schedule_serves_which_lengths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["buckets", "matmul m=1 n=64 k=64 act=i8 weight=i8", "--lengths", "64,1,8", "--loss", "0.5"]
    device = ["--device", "npu:systolic,rows=16,cols=16", "--samples", "6", "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words, *device])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(length for bucket in found["buckets"] for length in bucket["lengths"]) == [1, 8, 64]
    assert all(bucket["loss"] <= 0.5 and "dataflow" in bucket["schedule"] for bucket in found["buckets"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "1,x"], "malformed --lengths"),
        (["--lengths", "0"], "malformed --lengths"),
        (["--lengths", "4", "--field", "rows"], "no field 'rows'"),
        (["--lengths", "4", "--device", "npu:systolic,pe=lut"], "integer weights"),
    ],
)
def test_what_has_no_buckets_is_refused(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fettle", "buckets", "matmul m=1 n=64 k=64 act=f32 weight=f32", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code != 0
    assert message in capsys.readouterr().err
