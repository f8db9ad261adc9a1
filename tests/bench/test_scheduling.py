"""Expected gain beside turns, on the recorded workloads of the example model."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.bench.scheduling import EXPECTED_GAIN, IN_TURN, MARKS, curves, mean_ratio, parts_of
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.tuning import read_work

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "bench" / "results" / "zen4" / "decoder_layer").glob("*.json.gz"))


def test_expected_gain_is_ahead_of_turns_on_the_example_model() -> None:
    parts = parts_of(read_work(ROOT / "examples" / "decoder_layer.onnx").workloads, FILES)
    marks = MARKS[:4]
    found = curves(parts, 1, from_default=False, marks=marks)
    ahead = [mean_ratio(found, EXPECTED_GAIN, mark) - mean_ratio(found, IN_TURN, mark) for mark in marks]
    assert min(ahead) >= 0.0
    assert max(ahead) > 0.05


def test_a_workload_without_a_recording_is_named() -> None:
    with pytest.raises(InvalidArgument, match="softmax rows=1 cols=2"):
        parts_of([(Workload.parse("softmax rows=1 cols=2 act=f32"), 1)], FILES[:1])
