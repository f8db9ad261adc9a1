"""The cost model on recorded CPU spaces: what it must reach with 64 random trials."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest

from fettle.backends.replay.files import read_recording
from fettle.costmodel.features import ANALYTIC
from fettle.costmodel.recorded import AnalysedTrials, analysed
from fettle.costmodel.report import judge
from fettle.graph.errors import InvalidArgument

RECORDED = Path(__file__).parents[2] / "bench" / "results" / "zen4"


def trials(name: str) -> AnalysedTrials:
    return analysed(read_recording(RECORDED / f"{name}.json.gz"))


@pytest.mark.parametrize(
    ("name", "splits", "regret"),
    [("gemv/u4-4096x4096", 12, 0.05), ("gemv/tern-11008x4096", 6, 0.08), ("gemv/u2-11008x4096", 6, 0.05)],
)
def test_64_random_trials_rank_the_rest_of_a_gemv_space_and_say_how_sure_they_are(
    name: str, splits: int, regret: float
) -> None:
    known = trials(name)
    quality = judge(known.names, known.features, known.log_times, splits=splits)
    assert quality is not None
    assert quality.trained_on == 64
    assert quality.spearman is not None
    assert quality.spearman >= 0.9
    assert quality.top5_regret <= regret
    assert 0.85 <= quality.coverage <= 0.95


def test_analysis_is_what_makes_the_difference() -> None:
    known = trials("gemv/u4-4096x4096")
    values = [at for at, name in enumerate(known.names) if not name.startswith(("backend:", ANALYTIC))]
    without = judge([known.names[at] for at in values], known.features[:, values], known.log_times)
    assert without is not None
    assert without.spearman is not None
    assert without.spearman < 0.85


def test_an_eighth_of_a_space_chosen_by_analysis_alone_has_one_of_its_best() -> None:
    for name in ("down", "kv", "q", "up"):
        known = trials(f"decoder_layer/{name}")
        estimate = known.features[:, known.names.index(ANALYTIC)]
        best = known.log_times.min()
        promising = np.argsort(estimate)[: len(estimate) // 8]
        assert np.exp(known.log_times[promising].min() - best) < 1.05


def test_a_recording_that_does_not_say_of_what_cannot_be_analysed() -> None:
    recording = read_recording(RECORDED / "decoder_layer" / "add.json.gz")
    for lacking in (attrs.evolve(recording, workload=""), attrs.evolve(recording, device=None)):
        with pytest.raises(InvalidArgument, match="does not say"):
            analysed(lacking)
    other = attrs.evolve(recording, workload="softmax rows=4 cols=8 act=f32")
    with pytest.raises(InvalidArgument, match="present space"):
        analysed(other)
