"""NSGA-II over designs, and what is left when every beaten design is taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from fettle.backends.api import DeviceText, Value
from fettle.backends.npu.systolic.hardware import PRESET, Systolic
from fettle.backends.registry import get_backend
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload
from fettle.search.codesign.area import square_millimetres
from fettle.search.objectives import unbeaten

CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "rows": (8, 16, 32, 64, 128, 256),
    "cols": (8, 16, 32, 64, 128, 256),
    "sram": (64, 128, 256, 512, 1024, 2048, 4096),
    "bandwidth": (16, 32, 64, 128, 256),
    "vector": (32, 64, 128, 256),
    "mesh": ("1x1", "1x2", "2x2", "2x4"),
}
"""Parameters of a systolic device that are searched, with their values. ``bandwidth`` costs no area here, so it is
worth fixing."""

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


def evaluate(workloads: Sequence[Workload], values: Mapping[str, int | str]) -> Design | None:
    """Simulate a design; None if it cannot run a workload (a scratchpad too small)."""
    backend = get_backend("npu")
    device = backend.device(DeviceText("npu", PRESET, tuple((k, str(v)) for k, v in sorted(values.items()))))
    seconds = joules = 0.0
    for workload in workloads:
        if not (support := backend.supports(workload, device)):
            raise Unsupported(f"no design runs {workload}: {support.reason}")
        names = {p.name: p.choices for p in backend.space(workload, device).parameters}
        given: list[dict[str, Value]] = [{"dataflow": d} for d in names.get("dataflow", ())] or [{}]
        try:
            best = min((backend.simulate(workload, device, g) for g in given), key=lambda r: r.seconds)
        except Unsupported:
            return None
        seconds += best.seconds
        joules += best.energy or 0.0
    return Design(str(device), dict(values), seconds, square_millimetres(Systolic.of(device)), joules)


def front(designs: Sequence[Design]) -> list[Design]:
    """Designs that no other beats, the fastest first; of equal ones the first."""
    if not designs:
        return []
    return [designs[row] for row in unbeaten(np.array([[getattr(d, name) for name in OBJECTIVES] for d in designs]))]


def search(
    workloads: Sequence[Workload], trials: int, *, fixed: Mapping[str, int | str] | None = None, seed: int = 0
) -> list[Design]:
    """Every design tried, by NSGA-II (Deb et al. 2002, in Optuna) over :data:`CHOICES` less what is fixed.

    Raises:
        Unsupported: a workload that no design runs.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=min(24, max(4, trials // 4)), seed=seed)
    study = optuna.create_study(directions=["minimize"] * len(OBJECTIVES), sampler=sampler)
    tried: dict[tuple[tuple[str, int | str], ...], Design | None] = {}

    for _ in range(trials):
        trial = study.ask()
        values = dict(fixed or {})
        for name, choices in CHOICES.items():
            if name not in values:
                chosen: Any = trial.suggest_categorical(name, choices)
                values[name] = chosen
        key = tuple(sorted(values.items()))
        if key not in tried:
            tried[key] = evaluate(workloads, values)
        design = tried[key]
        if design is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, (design.seconds, design.mm2, design.joules))
    return [design for design in tried.values() if design is not None]
