"""Finds the kernel of a workload in the cache, or says field by field how the nearest one differs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from fettle.backends.api import Basis, Device
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.kernels import Kernel, kernel_key

SERVED = (Basis.MEASURED, Basis.SIMULATED, Basis.REPLAYED)
"""Bases in order of trust; a kernel that was only predicted or estimated never ran, so it is never served."""

_COMPARED = 500
"""Kernels of an operator that a miss is compared with."""

ABSENT = "none"
"""How a field reads that one side does not have."""


@attrs.frozen
class Miss:
    """One field in which the nearest stored kernel differs from what was asked.

    Attributes:
        field: ``workload.k``, ``device.threads`` (a limit), ``device.facts.model``,
            ``mode``; ``store`` when the cache is empty.
        wanted: what was asked for, as text.
        nearest: what the nearest kernel has, as text.
    """

    field: str
    wanted: str
    nearest: str


@attrs.frozen
class LookupResult:
    """Answer of a lookup.

    Attributes:
        match: ``exact`` or ``none``.
        key: cache key of the kernel found, or the key a measured kernel would have.
        kernel: the kernel, or None.
        misses: why there is none; empty on a match.
    """

    match: str
    key: str
    kernel: Kernel | None = None
    misses: tuple[Miss, ...] = ()


def lookup(store: Store, workload: Workload, device: Device, mode: str = "hot") -> LookupResult:
    """The kernel tuned for exactly this workload, device and mode; measured before simulated.

    Raises:
        InvalidArgument: ``mode`` is neither hot nor cold.
        Unavailable: the store cannot be reached.
    """
    return lookup_all(store, (workload,), device, mode)[0]


def lookup_all(
    store: Store, workloads: Sequence[Workload], device: Device, mode: str = "hot"
) -> tuple[LookupResult, ...]:
    """:func:`lookup` for many workloads, in their order; stored kernels are read once for all misses."""
    if mode not in ("hot", "cold"):
        raise InvalidArgument(f"measurement mode {mode!r} is neither hot nor cold", details={"field": "mode"})
    neighbours = _Neighbours(store)
    keys = [tuple(kernel_key(workload, device, mode, basis) for basis in SERVED) for workload in workloads]
    stored = store.get_kernels([key for served in keys for key in served])

    def result(workload: Workload, served: Sequence[str]) -> LookupResult:
        for key in served:
            if key in stored:
                return LookupResult("exact", key, stored[key])
        return LookupResult("none", served[0], None, neighbours.explain(_Identity.of(workload, device, mode)))

    return tuple(result(workload, served) for workload, served in zip(workloads, keys, strict=True))


@attrs.frozen
class _Identity:
    """What a cache key is made of, as text: (field, value) in the order of explanation, workload first."""

    operator: str
    backend: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, workload: Workload, device: Device, mode: str) -> _Identity:
        fields = {f"workload.{name}": _text(value) for name, value in workload.values.items()}
        fields |= {"device.backend": device.backend, "device.preset": device.preset or ABSENT}
        fields |= {f"device.{name}": _text(value) for name, value in device.limits}
        fields |= {f"device.facts.{name}": _text(value) for name, value in device.facts}
        return cls(workload.operator, device.backend, (*fields.items(), ("mode", mode)))

    def differences(self, other: _Identity) -> tuple[Miss, ...]:
        """Fields in which ``other`` differs; fields of two operators, or devices of two backends, are not compared."""
        if self.fields == other.fields and self.operator == other.operator:
            return ()
        mine, its = dict(self.fields), dict(other.fields)
        pairs = [(name, mine.get(name, ABSENT), its.get(name, ABSENT)) for name in dict.fromkeys((*mine, *its))]
        misses = [Miss(*pair) for pair in pairs if pair[1] != pair[2]]
        if self.operator != other.operator:
            comparable = [miss for miss in misses if not miss.field.startswith("workload.")]
            misses = [Miss("workload.operator", self.operator, other.operator), *comparable]
        if self.backend != other.backend:
            misses = [m for m in misses if m.field == "device.backend" or not m.field.startswith("device.")]
        return tuple(misses)

    def distance(self, other: _Identity) -> tuple[bool, int, float]:
        """Whether it is for another backend, how many fields differ, how far numbers are apart (Σ |log₂ ratio|)."""
        elsewhere = self.backend != other.backend
        if self.operator == other.operator and len(self.fields) == len(other.fields):  # quick: a batch compares often
            pairs = [(a, b) for a, b in zip(self.fields, other.fields, strict=True) if a != b]
            if all(a[0] == b[0] for a, b in pairs):
                return elsewhere, len(pairs), math.fsum(_octaves(a[1], b[1]) for a, b in pairs)
        misses = self.differences(other)
        return elsewhere, len(misses), math.fsum(_octaves(miss.wanted, miss.nearest) for miss in misses)


class _Neighbours:
    """Stored kernels to compare misses with: the newest of an operator, or of any if it has none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_operator: dict[str | None, list[tuple[Kernel, _Identity]]] = {}

    def explain(self, wanted: _Identity) -> tuple[Miss, ...]:
        """The differences from the nearest one."""
        candidates = self._read(wanted.operator) or self._read(None)
        if not candidates:
            return (Miss("store", "a kernel", "empty"),)
        kernel, nearest = min(candidates, key=lambda candidate: wanted.distance(candidate[1]))
        return wanted.differences(nearest) or (Miss("basis", " or ".join(b.value for b in SERVED), kernel.basis.value),)

    def _read(self, operator: str | None) -> list[tuple[Kernel, _Identity]]:
        if operator not in self._by_operator:
            kernels = self._store.kernels(operator=operator, limit=_COMPARED)
            self._by_operator[operator] = [(k, _Identity.of(k.workload, k.device, k.mode)) for k in kernels]
        return self._by_operator[operator]


def _text(value: object) -> str:
    return ABSENT if value is None else str(value)


def _octaves(wanted: str, nearest: str) -> float:
    if wanted.isdecimal() and nearest.isdecimal() and int(wanted) and int(nearest):
        return abs(math.log2(int(wanted)) - math.log2(int(nearest)))
    return 0.0
