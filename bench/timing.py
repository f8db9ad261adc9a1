"""Interleaved timing of rival functions in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import attrs


@attrs.frozen
class Timed:
    """Medians over rounds, seconds per call, and the paired ratios to a reference rival."""

    medians: dict[str, float]
    samples: dict[str, tuple[float, ...]]

    def ratio(self, name: str, to: str) -> float:
        """Median over rounds of ``name / to``, each pair measured back to back."""
        return statistics.median(a / b for a, b in zip(self.samples[name], self.samples[to], strict=True))


def interleave(rivals: Mapping[str, Callable[[], object]], rounds: int = 15, sample: float = 0.01) -> Timed:
    """Time every rival once a round (a sample lasts at least ``sample`` seconds), order reversed every other round."""
    calls: dict[str, int] = {}
    for name, run in rivals.items():
        run()
        start = time.perf_counter()
        run()
        once = time.perf_counter() - start
        calls[name] = max(1, int(sample / max(once, 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds):
        order = list(rivals)[:: 1 if round_ % 2 == 0 else -1]
        for name in order:
            run, count = rivals[name], calls[name]
            run()
            start = time.perf_counter()
            for _ in range(count):
                run()
            samples[name].append((time.perf_counter() - start) / count)
    return Timed({name: statistics.median(s) for name, s in samples.items()}, {n: tuple(s) for n, s in samples.items()})
