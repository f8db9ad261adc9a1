"""NSGA-II over designs, and what is left when every beaten design is taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from fettle.backends.api import Value
from fettle.backends.registry import get_backend
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload
from fettle.search.codesign.spaces import SYSTOLIC, DesignSpace, Values
from fettle.search.objectives import unbeaten

OBJECTIVES = ("seconds", "mm2", "joules")


@attrs.frozen
class Design:
    """One device under the workloads, each in the best of its textbook mappings.

    Attributes:
        values: the searched parameters.
        seconds, joules: of all workloads together, once each.
        mm2: the area proxy.
    """

    device: str
    values: Mapping[str, int | str]
    seconds: float
    mm2: float
    joules: float


def evaluate(workloads: Sequence[Workload], values: Values, space: DesignSpace = SYSTOLIC) -> Design:
    """Simulate a design.

    Raises:
        Unsupported: it cannot run a workload (a scratchpad too small, weights that do not fit the banks).
    """
    backend = get_backend(space.backend)
    device = space.device(values)
    seconds = joules = 0.0
    for workload in workloads:
        if not (support := backend.supports(workload, device)):
            raise Unsupported(f"{device} does not run {workload}: {support.reason}")
        choices = backend.space(workload, device).choices
        given: list[dict[str, Value]] = [{"dataflow": d} for d in choices.get("dataflow", ())] or [{}]
        best = min((backend.simulate(workload, device, g) for g in given), key=lambda r: r.seconds)
        seconds += best.seconds
        joules += best.energy or 0.0
    return Design(str(device), dict(values), seconds, space.mm2(device), joules)


def front(designs: Sequence[Design]) -> list[Design]:
    """Designs that no other beats, the fastest first; of equal ones the first."""
    if not designs:
        return []
    return [designs[row] for row in unbeaten(np.array([[getattr(d, name) for name in OBJECTIVES] for d in designs]))]


def search(
    workloads: Sequence[Workload],
    trials: int,
    *,
    space: DesignSpace = SYSTOLIC,
    fixed: Values | None = None,
    seed: int = 0,
) -> list[Design]:
    """Every design tried, by NSGA-II (Deb et al. 2002, in Optuna) over the space's choices less what is fixed.

    Raises:
        Unsupported: no design that was tried runs the workloads.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=min(24, max(4, trials // 4)), seed=seed)
    study = optuna.create_study(directions=["minimize"] * len(OBJECTIVES), sampler=sampler)
    tried: dict[tuple[tuple[str, int | str], ...], Design | str] = {}
    for _ in range(trials):
        trial = study.ask()
        values = dict(fixed or {})
        for name, choices in space.choices.items():
            if name not in values:
                chosen: Any = trial.suggest_categorical(name, choices)
                values[name] = chosen
        key = tuple(sorted(values.items()))
        if key not in tried:
            tried[key] = _attempted(workloads, values, space)
        found = tried[key]
        if isinstance(found, Design):
            study.tell(trial, (found.seconds, found.mm2, found.joules))
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    designs = [found for found in tried.values() if isinstance(found, Design)]
    if not designs:
        reasons = [found for found in tried.values() if isinstance(found, str) and found]
        reason = reasons[-1] if reasons else "no combination of parameters makes sense"
        raise Unsupported(f"none of {len(tried)} designs will do: {reason}")
    return designs


def _attempted(workloads: Sequence[Workload], values: Values, space: DesignSpace) -> Design | str:
    """A design, or why it will not do; empty if its parameters make no sense together."""
    if not space.sensible(values):
        return ""
    try:
        return evaluate(workloads, values, space)
    except Unsupported as error:
        return error.message
