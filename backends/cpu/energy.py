"""Energy that the processor's packages and their memory use, where the machine tells it: RAPL through Linux's powercap.

The counters are in microjoules, are renewed about every millisecond, and start again from 0 beyond a range of their own
(Documentation/power/powercap in the kernel's sources). On most machines only root may read them. They count everything
that runs on a package, other processes included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

POWERCAP = Path("/sys/class/powercap")


@attrs.frozen
class Counter:
    """One domain: the file of its microjoules, and where it wraps around."""

    file: Path
    range_uj: int

    def read(self) -> int:
        """Microjoules since some moment. Raises OSError or ValueError if the file does not tell."""
        return int(self.file.read_text(encoding="ascii"))


@attrs.frozen
class EnergyCounters:
    """The domains of this machine that add up to what its packages and their memory use."""

    counters: tuple[Counter, ...]

    @classmethod
    def find(cls, root: Path = POWERCAP) -> EnergyCounters | None:
        """The counters of ``intel-rapl:N`` (``package-N``, AMD's too) and of memory beside it; None if there are none,
        or one of them may not be read: half a machine's energy would be a wrong figure."""
        counters = []
        for package in sorted(root.glob("intel-rapl:*")):
            try:
                name = (package / "name").read_text(encoding="ascii").strip()
                if package.name.count(":") == 1 and name.startswith("package"):
                    memory = [
                        domain
                        for domain in sorted(package.glob("intel-rapl:*"))
                        if (domain / "name").read_text(encoding="ascii").strip() == "dram"
                    ]
                    counters += [_counter(domain) for domain in (package, *memory)]
            except (OSError, ValueError):
                return None
        return cls(tuple(counters)) if counters else None

    def read(self) -> tuple[int, ...]:
        """Microjoules of every counter. Raises OSError or ValueError if one does not tell any more."""
        return tuple(counter.read() for counter in self.counters)

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Energy between two readings, less than one range of each counter apart (minutes at full power)."""
        differences = zip(self.counters, before, after, strict=True)
        return 1e-6 * sum(b - a if b >= a else b - a + counter.range_uj for counter, a, b in differences)


class Meter:
    """Adds up the energy of some stretches of time; without counters, or once one fails, there is no total."""

    def __init__(self, counters: EnergyCounters | None) -> None:
        self._counters = counters
        self._before: tuple[int, ...] | None = None
        self._joules = 0.0

    def start(self) -> None:
        """A stretch begins."""
        self._before = self._read()

    def stop(self) -> None:
        """It ends."""
        after = self._read()
        if self._counters is not None and self._before is not None and after is not None:
            self._joules += self._counters.joules(self._before, after)

    @property
    def joules(self) -> float | None:
        """Of all stretches; None if the machine did not tell, or they were too short for a counter to move."""
        return self._joules if self._counters is not None and self._joules > 0.0 else None

    def _read(self) -> tuple[int, ...] | None:
        if self._counters is None:
            return None
        try:
            return self._counters.read()
        except (OSError, ValueError):
            self._counters = None
            return None


def _counter(domain: Path) -> Counter:
    counter = Counter(domain / "energy_uj", int((domain / "max_energy_range_uj").read_text(encoding="ascii")))
    counter.read()  # may this process?
    return counter
