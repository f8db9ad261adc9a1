"""Kernel Tuner's strategies on a recording, in its own simulation mode (its optional dependency: ``fettle[bench]``)."""

from __future__ import annotations

import contextlib
import io
import json
import random
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fettle.backends.api import Outcome
from fettle.backends.replay.recording import Recording, Row
from fettle.graph.errors import Unsupported

STRATEGIES = (
    "random_sample",
    "genetic_algorithm",
    "simulated_annealing",
    "dual_annealing",
    "basinhopping",
    "pso",
    "firefly_algorithm",
    "diff_evo",
    "mls",
    "greedy_mls",
    "ordered_greedy_mls",
    "greedy_ils",
    "bayes_opt",
    "hybrid_vndx",
    "adaptive_tabu_greywolf",
)
"""Every strategy of Kernel Tuner 1.5 that needs nothing beyond it, exhaustive search apart."""

_ERRORS = {Outcome.COMPILE_ERROR: "CompilationFailedConfig", Outcome.RUN_ERROR: "RuntimeFailedConfig"}


class Simulation:
    """A recording as Kernel Tuner sees it: its own cache format, and the recorded rows as the only restriction.

    Raises:
        Unsupported: Kernel Tuner is not installed.
    """

    def __init__(self, recording: Recording) -> None:
        try:
            import kernel_tuner
        except ImportError as problem:
            raise Unsupported("Kernel Tuner is not installed", hint="pip install 'fettle-tuner[bench]'") from problem
        self._tuner = kernel_tuner
        self._names = [p.name for p in recording.parameters]
        self._choices = {p.name: list(p.choices) for p in recording.parameters}
        self._numbers = {row.values: number for number, row in enumerate(recording.rows)}
        self._cache = json.dumps(self._document(recording))

    def search(self, strategy: str, evaluations: int, seed: int) -> list[int]:
        """The first ``evaluations`` different rows the strategy tries with its default options, in its order; fewer
        if it stops by itself. Strategies that restart keep the seed's generators running."""
        random.seed(seed)
        np.random.seed(seed)
        with tempfile.TemporaryDirectory() as folder, _silence():
            path = Path(folder) / "cache.json"
            path.write_text(self._cache)
            results, _ = self._tuner.tune_kernel(
                kernel_name="recorded",
                kernel_source="",
                problem_size=(1,),
                arguments=[],
                tune_params=self._choices,
                restrictions=[self._restriction()],
                strategy=strategy,
                strategy_options={"max_fevals": evaluations},
                cache=str(path),
                simulation_mode=True,
                quiet=True,
                seed=seed,
            )
        tried = [self._numbers[tuple(result[name] for name in self._names)] for result in results]
        return list(dict.fromkeys(tried))[:evaluations]

    def _restriction(self) -> Any:
        """Whether a configuration was recorded, in the one form that all strategies call alike."""
        from constraint import FunctionConstraint

        recorded = self._numbers  # Kernel Tuner copies its restrictions: a closure, not a method
        return FunctionConstraint(lambda *values: values in recorded)

    def _document(self, recording: Recording) -> dict[str, Any]:
        return {
            "device_name": recording.device_name or "recorded",
            "kernel_name": "recorded",
            "problem_size": [1],
            "tune_params_keys": self._names,
            "tune_params": self._choices,
            "cache": {",".join(str(v) for v in row.values): self._entry(row) for row in recording.rows},
        }

    def _entry(self, row: Row) -> dict[str, Any]:
        time = _ERRORS.get(row.outcome, "InvalidConfig") if row.objective is None else row.objective
        timings = {"compile_time": 0.0, "verification_time": 0.0, "benchmark_time": 0.0}
        return dict(zip(self._names, row.values, strict=True)) | timings | {"time": time, "times": [time]}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Its progress goes to stdout, which belongs to our own output."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
