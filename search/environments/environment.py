"""A (workload, device) as a Gymnasium environment."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from fettle.backends.api import Measurement, MeasurePolicy, Outcome, Schedule
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space, why_invalid
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload
from fettle.search.environments.actions import ACTIONS, PointActions
from fettle.search.environments.remembered import RememberedTrials

REFERENCES = ("default", "bound")

FAILURE_SLOWDOWN = 10.0
"""A failed trial is rewarded as a schedule that takes so many times as long as the default."""

_OUTCOMES = tuple(Outcome)
_NO_TIME = 0.0


class TuningEnv(gymnasium.Env[dict[str, Any], Any]):
    """One step is one trial: a schedule is built, verified and measured. An episode starts at the default schedule.

    Actions (``actions``):

    * ``point``: a whole schedule, the number of a choice for each parameter.
    * ``edit``: one parameter of the present schedule set to one of its choices. An edit that fails is undone.

    An action that is no valid schedule, or whose schedule fails on the device, is a typed failure that costs a step.

    Observations, by name:

    * ``schedule``: numbers of the present schedule's choices, in the order of the space's parameters,
    * ``outcome``: of the last trial, its place in :class:`~fettle.backends.api.Outcome` (0 is a success),
    * ``time_s``: seconds of the last trial; 0 if it failed and so has none,
    * ``best_s``: seconds of the fastest trial of the episode,
    * ``reference_s``: seconds that rewards compare with,
    * ``trials_left``: how many steps the episode still has.

    The reward is log(reference / time): the log speed-up over the default schedule, or (``reference="bound"``), at
    most 0, over the time no schedule can beat. Episodes are truncated after ``steps`` trials and never terminate
    before. ``info`` has the tried ``schedule`` and its ``outcome``, ``message``, ``basis`` and ``energy_j`` (None if
    the device does not tell).

    Args:
        workload: a workload or its text.
        device: device text; ``replay:FILE`` for a recording.
        actions: ``point`` or ``edit``.
        reference: ``default`` or ``bound``; for the latter the device's roofs are measured first.
        steps: trials of an episode.
        policy: how kernels are timed.
        seed: of the operands.

    Raises:
        InvalidArgument (and subclasses): malformed workload, device or option.
        Unsupported: the device cannot run the workload.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # as Gymnasium declares it

    def __init__(
        self,
        workload: str | Workload,
        device: str = "cpu",
        *,
        actions: str = "point",
        reference: str = "default",
        steps: int = 64,
        policy: MeasurePolicy | None = None,
        seed: int = 0,
        render_mode: None = None,
    ) -> None:
        _check_options(actions, reference, steps, render_mode)
        backend, resolved = resolve_device(device)
        parsed = workload if isinstance(workload, Workload) else Workload.parse(workload)
        if not (support := backend.supports(parsed, resolved)):
            raise Unsupported(f"{device} cannot run {parsed}: {support.reason}")
        self.workload, self.device = parsed, resolved
        self.points = enumerate_space(backend.space(parsed, resolved))
        self.default = backend.default(parsed, resolved)
        self._trials = RememberedTrials(backend, parsed, resolved, policy or MeasurePolicy(), seed)
        self._actions = ACTIONS[actions](self.points.space)
        self._ranks = PointActions(self.points.space)
        self._reference = reference
        self._reference_s: float | None = None
        self._steps = steps
        self._taken = 0
        self._present = self.default
        self._best = math.inf
        self.action_space = self._actions.space
        self.observation_space = _observations(self._ranks.space, steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Back to the default schedule; its trial is not counted, and made once in the environment's life.

        Raises:
            Unsupported: the default schedule fails on this device, so there is nothing to compare with.
        """
        super().reset(seed=seed, options=options)
        default = self._trials.measure(self.default)
        if not default.ok:
            raise Unsupported(
                f"the default schedule of {self.workload} fails: {default.outcome.value}: {default.message}"
            )
        if self._reference_s is None:
            self._reference_s = default.time if self._reference == "default" else self._trials.bound().seconds
        self._taken, self._present, self._best = 0, self.default, default.time
        return self._observe(default), _info(self.default, default)

    def step(self, action: Any) -> tuple[dict[str, Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """One trial; see the class.

        Raises:
            InvalidArgument: not an action of the action space, or the episode was not begun or is over.
        """
        if self._reference_s is None or self._taken == self._steps:
            raise InvalidArgument("no episode is under way", hint="call reset() first")
        if not self.action_space.contains(action):
            raise InvalidArgument(f"{action!r} is no action of {self.action_space}")
        schedule = self._actions.schedule(action, self._present)
        measurement = self._try(schedule)
        self._taken += 1
        if measurement.ok:
            self._present = schedule
            self._best = min(self._best, measurement.time)
        slow = FAILURE_SLOWDOWN * self._trials.measure(self.default).time
        reward = math.log(self._reference_s / (measurement.time if measurement.ok else slow))
        return self._observe(measurement), reward, False, self._taken == self._steps, _info(schedule, measurement)

    def close(self) -> None:
        """Stop the workers."""
        self._trials.close()

    def _try(self, schedule: Schedule) -> Measurement:
        if self.points.index(schedule) is None:
            why = why_invalid(self.points.space, schedule) or "not a point of the space"
            return Measurement.failure(Outcome.INVALID, why)
        return self._trials.measure(schedule)

    def _observe(self, last: Measurement) -> dict[str, Any]:
        values = self._present.as_dict()
        numbers = [p.choices.index(values[p.name]) for p in self.points.space.parameters]
        return {
            "schedule": np.array(numbers, np.int64),
            "outcome": np.int64(_OUTCOMES.index(last.outcome)),
            "time_s": np.array([last.time if last.ok else _NO_TIME]),
            "best_s": np.array([self._best]),
            "reference_s": np.array([self._reference_s]),
            "trials_left": np.int64(self._steps - self._taken),
        }


def _info(schedule: Schedule, measurement: Measurement) -> dict[str, Any]:
    return {
        "schedule": schedule.as_dict(),
        "outcome": measurement.outcome.value,
        "message": measurement.message,
        "basis": measurement.basis.value,
        "energy_j": measurement.energy,
    }


def _check_options(actions: str, reference: str, steps: int, render_mode: None) -> None:
    for name, value, known in (("actions", actions, tuple(ACTIONS)), ("reference", reference, REFERENCES)):
        if value not in known:
            raise InvalidArgument(f"{name} {value!r} is not known", hint=f"one of: {' '.join(known)}")
    if steps < 1:
        raise InvalidArgument(f"an episode has at least one step, not {steps}")
    if render_mode is not None:
        raise InvalidArgument(f"nothing can be rendered as {render_mode!r}", hint="leave render_mode out")


def _observations(schedule: spaces.Space[Any], steps: int) -> spaces.Dict:
    second = spaces.Box(0.0, math.inf, (1,), np.float64)
    return spaces.Dict(
        {
            "schedule": schedule,
            "outcome": spaces.Discrete(len(_OUTCOMES)),
            "time_s": second,
            "best_s": second,
            "reference_s": second,
            "trials_left": spaces.Discrete(steps + 1),
        }
    )
