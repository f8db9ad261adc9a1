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


SETTLE = 0.25
"""Seconds of rest before each sample: idle worker threads of the rival before it spin, onnxruntime's for
milliseconds and those of TVM's pool for a tenth of a second, and would take a core from the one being timed."""

WARM_UP = 0.02
"""Seconds of untimed calls before each sample: threads wake up, and caches fill again."""


def interleave(
    rivals: Mapping[str, Callable[[], object]], rounds: int = 15, sample: float = 0.01, settle: float = SETTLE
) -> Timed:
    """Time every rival once a round (a sample lasts at least ``sample`` seconds), order reversed every other round.

    Args:
        settle: seconds of rest before each sample; rivals of one thread need none.
    """
    samples: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds):
        for name in list(rivals)[:: 1 if round_ % 2 == 0 else -1]:
            time.sleep(settle)
            calls = max(1, round(sample / _repeat(rivals[name], until=WARM_UP)))
            start = time.perf_counter()
            for _ in range(calls):
                rivals[name]()
            samples[name].append((time.perf_counter() - start) / calls)
    return Timed({name: statistics.median(s) for name, s in samples.items()}, {n: tuple(s) for n, s in samples.items()})


def _repeat(run: Callable[[], object], until: float) -> float:
    """Call for that many seconds (once at least); returns seconds per call."""
    begun = time.perf_counter()
    count = 0
    while not count or time.perf_counter() - begun < until:
        run()
        count += 1
    return (time.perf_counter() - begun) / count
