"""Tuning as an environment: the contract of Gymnasium, failures that cost a step, rewards that are log speed-ups."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from fettle.backends.api import MeasurePolicy, Outcome
from fettle.environments import ID, TuningEnv
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.search.environments.environment import FAILURE_SLOWDOWN
from tests.backends.replay.samples import BROKEN, TIMES, t4, write

OUTCOMES = list(Outcome)
XS, YS, KINDS = (1, 2, 4, 8, 16), (1, 2, 3), ("plain", "wide")
DEFAULT = (1, 2)
"""The first configuration of the recording that works."""

ENDLESS = "A Box observation space maximum value is infinity"
"""Gymnasium would like times to have an upper limit; they have none."""


@pytest.fixture
def recording(tmp_path: Path) -> str:
    return f"replay:{write(tmp_path / 'a.json', t4())}"


def make(device: str, **options: Any) -> gymnasium.Env[dict[str, Any], Any]:
    made: gymnasium.Env[dict[str, Any], Any] = gymnasium.make(ID, workload="recorded", device=device, **options)
    return made


def point(x: int, y: int, kind: str | None = None) -> np.ndarray:
    """The action for a configuration; parameters and choices are in the recording's order."""
    kind = kind or ("plain" if x < 8 else "wide")
    return np.array([XS.index(x), YS.index(y), KINDS.index(kind)])


def check(env: gymnasium.Env[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=rf"(?s).*({re.escape(ENDLESS)}|{re.escape(' is -inf')})")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("actions", ["point", "edit"])
def test_a_recording_is_an_environment_as_gymnasium_wants_it(recording: str, actions: str) -> None:
    check(make(recording, actions=actions, steps=5))


@pytest.mark.parametrize("device", ["cpu,threads=1", "npu:systolic,rows=8,cols=8", "pim:gddr6-aim"])
def test_so_is_every_other_device(device: str) -> None:
    workload = (
        "softmax rows=4 cols=32 act=f32" if device.startswith("cpu") else "matmul m=1 n=64 k=64 act=bf16 weight=bf16"
    )
    check(TuningEnv(workload, device, steps=4))


def test_the_cpu_is_an_environment_too_and_a_schedule_it_knows_is_not_measured_again() -> None:
    policy = MeasurePolicy(warmup=0, min_sample=0.0, samples=1)
    env = TuningEnv("softmax rows=4 cols=32 act=f32", "cpu,threads=1", steps=3, policy=policy)
    first, info = env.reset()
    assert first["time_s"] == first["best_s"] == first["reference_s"] > 0.0
    assert info["basis"] == "measured"
    again, reward, *_ = env.step(first["schedule"])
    assert (again["time_s"], reward) == (first["time_s"], 0.0)
    env.close()


def test_the_reward_is_the_log_speedup_over_the_default(recording: str) -> None:
    env = make(recording)
    observed, _ = env.reset()
    default = TIMES[DEFAULT] * 1e-3
    assert observed["reference_s"] == pytest.approx(default)
    observed, reward, terminated, truncated, info = env.step(point(4, 2))
    assert reward == pytest.approx(math.log(TIMES[DEFAULT] / TIMES[4, 2]))
    assert observed["time_s"] == observed["best_s"] == pytest.approx(TIMES[4, 2] * 1e-3)
    assert observed["schedule"].tolist() == point(4, 2).tolist()
    assert (terminated, truncated, info["schedule"]) == (False, False, {"x": 4, "y": 2, "kind": "plain"})
    slower, reward, *_ = env.step(point(16, 1))
    assert reward == pytest.approx(math.log(TIMES[DEFAULT] / TIMES[16, 1]))
    assert slower["best_s"] == observed["best_s"]


def test_the_bound_as_reference_makes_rewards_negative(recording: str) -> None:
    env = make(recording, reference="bound")
    observed, _ = env.reset()
    _, reward, *_ = env.step(point(4, 2))
    assert reward == pytest.approx(math.log(observed["reference_s"][0] / (TIMES[4, 2] * 1e-3)))
    assert float(reward) < 0.0


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (point(4, 2, "wide"), Outcome.INVALID),  # was never recorded
        (point(*next(iter(BROKEN))), Outcome.COMPILE_ERROR),
        (point(16, 3), Outcome.RUN_ERROR),
    ],
)
def test_a_failure_is_typed_and_costs_a_step(recording: str, action: np.ndarray, outcome: Outcome) -> None:
    env = make(recording, steps=2)
    before, _ = env.reset()
    observed, reward, _, truncated, info = env.step(action)
    assert OUTCOMES[observed["outcome"]] is outcome
    assert info["outcome"] == outcome.value
    assert reward == pytest.approx(-math.log(FAILURE_SLOWDOWN))
    assert observed["time_s"] == 0.0
    assert observed["best_s"] == before["best_s"]
    assert (observed["trials_left"], truncated) == (1, False)
    assert env.step(point(4, 2))[3] is True


def test_an_edit_changes_one_parameter_and_a_failed_one_is_undone(recording: str) -> None:
    env = make(recording, actions="edit")
    env.reset()
    assert env.action_space.n == len(XS) + len(YS) + len(KINDS)  # type: ignore[attr-defined]
    observed, *_ = env.step(XS.index(4))
    assert observed["schedule"].tolist() == point(4, 2).tolist()
    failed, *_ = env.step(len(XS) + len(YS) + KINDS.index("wide"))
    assert OUTCOMES[failed["outcome"]] is Outcome.INVALID
    assert failed["schedule"].tolist() == point(4, 2).tolist()
    observed, *_ = env.step(len(XS) + YS.index(3))
    assert observed["time_s"] == pytest.approx(TIMES[4, 3] * 1e-3)


def test_an_episode_that_is_over_or_not_begun_takes_no_step(recording: str) -> None:
    env = TuningEnv("recorded", recording, steps=1)
    with pytest.raises(InvalidArgument, match="reset"):
        env.step(point(4, 2))
    env.reset()
    with pytest.raises(InvalidArgument, match="no action"):
        env.step(np.array([99, 0, 0]))
    env.step(point(4, 2))
    with pytest.raises(InvalidArgument, match="reset"):
        env.step(point(4, 2))
    observed, _ = env.reset()
    assert observed["trials_left"] == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"actions": "wish"}, "point edit"),
        ({"reference": "peer"}, "default bound"),
        ({"steps": 0}, "at least one step"),
        ({"render_mode": "human"}, "rendered"),
    ],
)
def test_bad_options_are_named(recording: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        TuningEnv("recorded", recording, **options)
    assert says in str(error.value)


def test_a_workload_the_device_cannot_run_is_refused(recording: str) -> None:
    with pytest.raises(Unsupported, match="brings its own workload"):
        TuningEnv("softmax rows=4 cols=32 act=f32", recording)


def test_the_example_of_the_docs_runs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "search.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(re.findall(r"```python\n(import gymnasium.*?)```", text, re.S)[0], found)
    assert found["truncated"] is True
    assert found["speedup"] >= 1.0
