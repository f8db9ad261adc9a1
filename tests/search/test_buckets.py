"""Length buckets: as few schedules as there can be, and the stated loss is kept."""

from __future__ import annotations

import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends.api import Device, Outcome, Schedule
from fettle.backends.registry import resolve_device
from fettle.backends.replay.backend import ReplayBackend
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload
from fettle.search.buckets import cover, length_buckets
from tests.search.synthetic import DEVICE, SyntheticBackend, SyntheticExecutor, workload


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
    product = Workload.parse("matmul m=1 n=64 k=64 act=i8 weight=i8")
    lengths = [1, 8, 16, 33, 64, 100]
    tight = length_buckets(backend, device, product, "m", lengths, loss=0.0, samples=12)
    loose = length_buckets(backend, device, product, "m", lengths, loss=1.0, samples=12)
    for buckets, loss in ((tight, 0.0), (loose, 1.0)):
        assert sorted(length for b in buckets for length in b.lengths) == lengths
        assert all(b.loss <= loss for b in buckets)
    assert len(loose) <= len(tight)
    with pytest.raises(InvalidArgument):
        length_buckets(backend, device, product, "m", [], loss=0.1)


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


class MeasuredBackend(SyntheticBackend):
    """Fastest where ``tile_m`` is ``m``, in proportion; ``unroll`` = 4 is the fastest everywhere, and wrong."""

    def __init__(self) -> None:
        super().__init__(small=True, fails=lambda s: Outcome.WRONG_RESULT if s["unroll"] == 4 else None)
        self.made: list[SyntheticExecutor] = []

    def executor(self, device: Device) -> SyntheticExecutor:
        self.made.append(SyntheticExecutor(self))
        return self.made[-1]

    def seconds(self, workload: Workload, schedule: Schedule) -> float:
        tiles = sorted((int(workload["m"]), int(schedule["tile_m"])))
        return tiles[1] / tiles[0] / float(schedule["unroll"]) + 0.01 * float(schedule["tile_n"])


def test_a_device_without_a_model_is_measured_and_wrong_schedules_serve_nothing() -> None:
    backend = MeasuredBackend()
    found = length_buckets(backend, DEVICE, workload(), "m", [4, 8, 16], loss=0.0, samples=27)
    assert [(b.lengths, b.schedule["tile_m"], b.schedule["unroll"]) for b in found] == [
        ((4,), 4, 2),
        ((8,), 8, 2),
        ((16,), 16, 2),
    ]
    (one,) = length_buckets(backend, DEVICE, workload(), "m", [4, 8, 16], loss=1.0, samples=27)
    assert (one.lengths, one.schedule["tile_m"]) == ((4, 8, 16), 8)
    assert one.loss <= 1.0
    assert all(executor.closed and executor.compared for executor in backend.made)


def test_a_recording_has_no_buckets() -> None:
    with pytest.raises(Unsupported, match="one workload"):
        length_buckets(ReplayBackend(), Device("replay"), workload(), "m", [1], loss=0.1)
