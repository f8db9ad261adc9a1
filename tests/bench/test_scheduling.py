"""Expected gain beside turns, on the recorded workloads of the example model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fettle.bench.scheduling import EXPECTED_GAIN, IN_TURN, MARKS, Curve, curves, lead, mean_ratio, parts_of
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


def test_expected_gain_is_not_behind_turns_where_most_defaults_are_the_best() -> None:
    parts = parts_of(read_work(ROOT / "examples" / "decoder_layer.onnx").workloads, FILES)
    found = curves(parts, 4, marks=MARKS[:2])
    assert mean_ratio(found, EXPECTED_GAIN, 12) > 0.999
    assert lead(found, 12)[0] > 0.0


def test_the_lead_is_of_pairs_of_the_same_seed() -> None:
    def curve(policy: str, seed: int, ratio: float) -> Curve:
        return Curve(policy, seed, (ratio,) * len(MARKS))

    ours, turns = (0.9, 0.5, 0.7), (0.8, 0.3, 0.4)
    found = [curve(EXPECTED_GAIN, seed, r) for seed, r in enumerate(ours)]
    found += [curve(IN_TURN, seed, r) for seed, r in enumerate(turns)]
    mean, half = lead(found, 16)
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3))  # differences 0.1, 0.2, 0.3; t with 2 degrees
    assert math.isnan(lead(found[::3], 8)[1])


def test_a_workload_without_a_recording_is_named() -> None:
    with pytest.raises(InvalidArgument, match="softmax rows=1 cols=2"):
        parts_of([(Workload.parse("softmax rows=1 cols=2 act=f32"), 1)], FILES[:1])
