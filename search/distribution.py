"""One packed layout for all the row counts a deployment meets, with the schedule of each.

Decoding runs a product with few rows, a prompt with many, and both read the same weights: kernels whose layouts
differ would need a copy each. So the layout is chosen as a whole: the one with the least expected time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import attrs

from fettle.backends.api import Backend, Device, MeasurePolicy, Schedule
from fettle.backends.host.executor import make_executor
from fettle.backends.registry import get_backend
from fettle.graph.errors import InvalidArgument, NotFound
from fettle.graph.workload import Workload
from fettle.search.jobs import ExecutorFactory, run_job
from fettle.search.layoutrace import Entrant
from fettle.search.sessions import Sessions
from fettle.store.api import Store
from fettle.store.specs import Budget, JobSpec


@attrs.frozen
class Choice:
    """One row count. Times are medians in seconds.

    Attributes:
        m: rows of x.
        probability: of the distribution, normalised.
        schedule, seconds: the fastest of the common layout.
        best_schedule, best_layout, best_s: the fastest of any layout.
    """

    m: int
    probability: float
    schedule: Schedule
    seconds: float
    best_schedule: Schedule
    best_layout: str
    best_s: float


@attrs.frozen
class Distribution:
    """What :func:`tune_distribution` found.

    Attributes:
        layout: id of the packed layout that serves every row count.
        choices: one per row count, ascending.
        expected_s: Σ probability · seconds with that layout.
        unconstrained_s: the same if every row count had its own best layout, and its own copy of the weights.
        layouts: (layout, expected seconds) of every layout all row counts have a verified schedule of, fastest first;
            from single trials, so less certain than ``expected_s``.
        job_id: the tuning job all trials belong to.
    """

    layout: str
    choices: tuple[Choice, ...]
    expected_s: float
    unconstrained_s: float
    layouts: tuple[tuple[str, float], ...]
    job_id: str


def normalised(distribution: Mapping[int, float]) -> dict[int, float]:
    """Probabilities that add up to 1, by ascending row count.

    Raises:
        InvalidArgument: no row count, one that is no whole number from 1 on, or a weight that is not positive and
            finite.
    """
    example = "example: {1: 0.9, 128: 0.1}"
    if not isinstance(distribution, Mapping):  # Python callers pass anything
        raise InvalidArgument(f"a distribution maps rows to weights; {distribution!r} does not", hint=example)
    if not distribution:
        raise InvalidArgument("the distribution has no row count", hint=example)
    m: Any
    weight: Any
    for m, weight in distribution.items():
        if not isinstance(m, Integral) or not isinstance(weight, int | float) or m < 1 or not 0 < weight < math.inf:
            raise InvalidArgument(f"m={m!r} with weight {weight!r}: rows are at least 1, weights positive and finite")
    total = math.fsum(distribution.values())
    return {m: distribution[m] / total for m in sorted(distribution)}


def tune_distribution(
    store: Store,
    template: str,
    distribution: Mapping[int, float],
    device: Device,
    device_text: str,
    *,
    trials: int = 64,
    seed: int = 0,
    policy: MeasurePolicy | None = None,
    executor_factory: ExecutorFactory | None = None,
    backend: Backend | None = None,
) -> Distribution:
    """Choose one layout and a schedule per row count.

    1. The ordinary tuner runs on every row count (``trials`` each; nothing for what the cache already has).
    2. Its trials are grouped by weight layout.
    3. Layouts that could still win, were their gaps filled by kernels as fast as the best, have their gaps measured.
    4. The layout with the least expected time wins; its schedules meet the best of any layout, interleaved.
    5. The chosen kernels go into the cache, in place of faster ones of other layouts.

    Raises:
        InvalidArgument: a bad distribution, or a template with an ``m`` of its own.
        NotFound: no layout has a verified schedule for every row count.
        Conflict: the backend and its artifacts name different layouts.
    """
    weights = normalised(distribution)
    if not isinstance(template, str):
        raise InvalidArgument(f"a template is a workload's text without m, not {type(template).__name__}")
    if any(word.startswith("m=") for word in template.split()):
        raise InvalidArgument(f"template {template!r} says m", hint="leave it out: the distribution has the row counts")
    policy = policy or MeasurePolicy()
    backend = backend or get_backend(device.backend)
    workloads = [Workload.parse(f"{template} m={m}") for m in weights]
    budget = Budget(trials)
    spec = JobSpec(tuple((w, 1) for w in workloads), device, device_text, budget, policy, seed, title=template)
    job, _ = store.create_job(spec)
    run_job(store, job.id, executor_factory=executor_factory, backend=backend)
    entrants = [
        Entrant(store, backend, device, policy, w, weight, job.id, seed)
        for w, weight in zip(workloads, weights.values(), strict=True)
    ]
    with (
        (executor_factory or make_executor)(backend, device) as executor,
        Sessions(executor, policy, seed) as sessions,
    ):
        _fill_gaps(entrants, sessions)
        layouts = _complete(entrants)
        if not layouts:
            raise NotFound(f"no weight layout has a verified kernel for every m of {sorted(weights)}: {template}")
        chosen = layouts[0][0]
        choices = tuple(_choose(m, e, chosen, sessions) for m, e in zip(weights, entrants, strict=True))
    expected = math.fsum(c.probability * c.seconds for c in choices)
    unconstrained = math.fsum(c.probability * c.best_s for c in choices)
    return Distribution(chosen, choices, expected, unconstrained, layouts, job.id)


def _fill_gaps(entrants: list[Entrant], sessions: Sessions) -> None:
    """Measure what layouts lack, as long as they could still become the fastest, the most promising first."""
    names = sorted({name for e in entrants for name in e.found}, key=lambda name: _expected(entrants, name))
    for name in names:
        for entrant in sorted(entrants, key=lambda e: -e.weight):
            fastest = min((seconds for _, seconds in _complete(entrants)), default=math.inf)
            if _expected(entrants, name) >= fastest:
                break  # complete, or too slow already
            if name not in entrant.found and not entrant.fill(name, sessions.get(entrant.workload)):
                break


def _expected(entrants: list[Entrant], layout: str) -> float:
    """Expected seconds of a layout if what it lacks were as fast as the best of any layout."""
    return math.fsum(e.weight * (e.found[layout].seconds if layout in e.found else e.best.seconds) for e in entrants)


def _complete(entrants: list[Entrant]) -> tuple[tuple[str, float], ...]:
    """(layout, expected seconds) of those every entrant has, fastest first."""
    common = set.intersection(*(set(e.found) for e in entrants))
    return tuple(sorted(((name, _expected(entrants, name)) for name in common), key=lambda item: item[1]))


def _choose(m: int, entrant: Entrant, layout: str, sessions: Sessions) -> Choice:
    """Meet the best, and make the chosen schedule what the cache serves."""
    best = entrant.best
    found, best_s = entrant.settle(layout, sessions.get(entrant.workload))
    return Choice(m, entrant.weight, found.schedule, found.seconds, best.schedule, best.layout, best_s)
