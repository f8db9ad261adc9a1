"""Interleaved timing of rival functions in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import attrs

Work = TypeVar("Work", bound=Hashable)


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
    samples = _in_turns({name: {name: rival} for name, rival in rivals.items()}, rounds, sample, settle)
    flat = {name: tuple(times[name]) for name, times in samples.items()}
    return Timed({name: statistics.median(times) for name, times in flat.items()}, flat)


def interleave_groups(
    groups: Mapping[str, Mapping[Work, Callable[[], object]]],
    rounds: int = 15,
    sample: float = 0.01,
    settle: float = SETTLE,
) -> dict[str, dict[Work, float]]:
    """Seconds a call, in the shortest round, of rivals that each do several things with worker threads of their own.

    The shortest: where threads wait for each other, most of a few rounds may be disturbed, by several times the work.

    Args:
        groups: rival -> work -> how it does that.
        settle: seconds of rest before each rival's turn, in which it does all it can.
    """
    samples = _in_turns(groups, rounds, sample, settle)
    return {name: {work: min(s) for work, s in times.items()} for name, times in samples.items()}


def _in_turns(
    groups: Mapping[str, Mapping[Work, Callable[[], object]]], rounds: int, sample: float, settle: float
) -> dict[str, dict[Work, list[float]]]:
    """Seconds a call of each round; see :func:`interleave_groups`."""
    samples: dict[str, dict[Work, list[float]]] = {name: {w: [] for w in group} for name, group in groups.items()}
    for round_ in range(rounds):
        for name in list(groups)[:: 1 if round_ % 2 == 0 else -1]:
            time.sleep(settle)
            for work, run in groups[name].items():
                calls = max(1, round(sample / _repeat(run, until=WARM_UP)))
                start = time.perf_counter()
                for _ in range(calls):
                    run()
                samples[name][work].append((time.perf_counter() - start) / calls)
    return samples


def _repeat(run: Callable[[], object], until: float) -> float:
    """Call for that many seconds (once at least); returns seconds per call."""
    begun = time.perf_counter()
    count = 0
    while not count or time.perf_counter() - begun < until:
        run()
        count += 1
    return (time.perf_counter() - begun) / count
