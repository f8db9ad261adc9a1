"""What comes of a trial: how to time it, how it ended, how long it took, and who says so."""

from __future__ import annotations

import enum
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import attrs

from fettle.backends.api.values import Pairs, Value, sorted_pairs
from fettle.graph.errors import InvalidArgument

WAITED = "waited"
"""The counter of what other processes took: the share of the samples' time, 0 to 1, in which a kernel's threads could
have run and waited for a processor. Where the device does not tell, there is none."""


class Outcome(enum.Enum):
    """How a trial ended. Everything but ``OK`` is a typed failure that still cost a trial."""

    OK = "ok"
    INVALID = "invalid"
    COMPILE_ERROR = "compile_error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    WRONG_RESULT = "wrong_result"
    RUN_ERROR = "run_error"


class Basis(enum.Enum):
    """Where a time comes from."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    ESTIMATED = "estimated"
    PREDICTED = "predicted"
    REPLAYED = "replayed"


@attrs.frozen
class MeasurePolicy:
    """How a kernel is timed.

    Attributes:
        mode: ``hot`` repeats on the same buffers; ``cold`` rotates packed weights over more memory than the
            last-level cache (or 1 GiB, whichever is smaller).
        warmup: untimed calls.
        min_sample: seconds one sample lasts at least; a sample is the mean of as many calls as that takes.
        samples: how many samples; one is enough of a kernel far slower than others of its workload.
        timeout: wall-clock limit for build, and for verify and measure together, each.
    """

    mode: str = "hot"
    warmup: int = 2
    min_sample: float = 0.005
    samples: int = 7
    timeout: float = 20.0

    def __attrs_post_init__(self) -> None:
        if self.mode not in ("hot", "cold"):
            raise InvalidArgument(f"measurement mode {self.mode!r} is neither hot nor cold")
        if self.samples < 1 or self.warmup < 0 or self.min_sample < 0 or self.timeout <= 0:
            raise InvalidArgument(f"measurement policy out of range: {self}")

    def sample(self, call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> tuple[float, ...]:
        """Seconds a call takes from Python, one mean per sample: what a backend returns that has no timer of its own.

        The warm-up finds out how many calls fill a sample, so that the clock is read twice a sample only.
        """

        def seconds(calls: int) -> float:
            start = clock()
            for _ in range(calls):
                call()
            return clock() - start

        for _ in range(self.warmup):
            call()
        calls = 1
        while (taken := seconds(calls)) < self.min_sample:
            calls = max(2 * calls, round(1.2 * calls * self.min_sample / max(taken, 1e-9)))
        return tuple(seconds(calls) / calls for _ in range(self.samples))


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@attrs.frozen
class Measurement:
    """Raw samples of one trial, or how it failed.

    Attributes:
        outcome: OK, or the typed failure.
        samples: seconds per call, one per sample; empty on failure.
        basis: where the samples come from.
        message: what went wrong, for people.
        counters: anything countable: cycles, bytes, commands, calls per sample.
        energy: joules per call where the device tells it, else None. Never estimated silently.
        objective: seconds that stand for the trial where their source says so itself (a recording's own figure);
            None: the median of the samples.
    """

    outcome: Outcome
    samples: tuple[float, ...] = attrs.field(default=(), converter=_floats)
    basis: Basis = Basis.MEASURED
    message: str = ""
    counters: Pairs = attrs.field(default=(), converter=sorted_pairs)
    energy: float | None = None
    objective: float | None = None

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def median(self) -> float:
        """Median of the samples in seconds; infinity for a failure."""
        return statistics.median(self.samples) if self.ok and self.samples else float("inf")

    @property
    def time(self) -> float:
        """What the search minimises, in seconds: the objective if one is stated, else the median."""
        return self.median if self.objective is None or not self.ok else self.objective

    @property
    def waited(self) -> float | None:
        """The counter :data:`WAITED`; None without it."""
        found = dict(self.counters).get(WAITED)
        return None if found is None else float(found)

    @classmethod
    def joined(cls, parts: Sequence[Measurement]) -> Measurement:
        """One measurement of all samples of some of the same kernel, none of which failed.

        Counters that differ, and energy, are means over the samples; what some parts do not tell, the whole does not.
        """
        weights = [len(part.samples) for part in parts]

        def common(values: Sequence[Value]) -> Value:
            numbers = [float(value) for value in values if not isinstance(value, str)]
            same = len(set(values)) == 1 or len(numbers) < len(values)
            return values[0] if same else statistics.fmean(numbers, weights)

        counters = [dict(part.counters) for part in parts]
        names = set[str].intersection(*(set(one) for one in counters))
        energies = [part.energy for part in parts if part.energy is not None]
        return cls(
            Outcome.OK,
            tuple(sample for part in parts for sample in part.samples),
            parts[0].basis,
            counters=tuple((name, common([one[name] for one in counters])) for name in names),
            energy=statistics.fmean(energies, weights) if len(energies) == len(parts) else None,
            objective=parts[0].objective if len({part.objective for part in parts}) == 1 else None,
        )

    @classmethod
    def failure(cls, outcome: Outcome, message: str, basis: Basis = Basis.MEASURED) -> Measurement:
        """A typed failure; the message is cut to 2000 characters."""
        return cls(outcome, (), basis, message[:2000])
