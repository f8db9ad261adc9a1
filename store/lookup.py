"""Finds the kernel of a workload in the cache, or says field by field how the nearest one differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import attrs

from fettle.backends.api import Basis, Device
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.values import Kernel, kernel_key

SERVED = (Basis.MEASURED, Basis.SIMULATED, Basis.ESTIMATED, Basis.REPLAYED)
"""Bases in order of trust; a kernel that was only predicted is never served."""

ABSENT = "none"
"""How a field reads that one side does not have."""


@attrs.frozen
class Miss:
    """One field in which the nearest stored kernel differs from what was asked.

    Attributes:
        field: ``workload.k``, ``device.threads``, ``mode``; ``store`` when the cache is empty.
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
    """The kernel tuned for exactly this workload, device and mode; measured before simulated before estimated.

    Raises:
        InvalidArgument: ``mode`` is neither hot nor cold.
        Unavailable: the store cannot be reached.
    """
    if mode not in ("hot", "cold"):
        raise InvalidArgument(f"measurement mode {mode!r} is neither hot nor cold", details={"field": "mode"})
    for basis in SERVED:
        key = kernel_key(workload, device, mode, basis)
        kernel = store.get_kernel(key)
        if kernel is not None:
            return LookupResult("exact", key, kernel)
    return LookupResult("none", kernel_key(workload, device, mode), None, _explain(store, workload, device, mode))


def _explain(store: Store, workload: Workload, device: Device, mode: str) -> tuple[Miss, ...]:
    kernels = store.kernels(operator=workload.operator) or store.kernels()
    if not kernels:
        return (Miss("store", str(workload), "empty"),)
    wanted = _flat(workload, device, mode)
    nearest = min(kernels, key=lambda k: _distance(wanted, _flat(k.workload, k.device, k.mode)))
    misses = tuple(_differences(wanted, _flat(nearest.workload, nearest.device, nearest.mode)))
    return misses or (Miss("basis", " or ".join(b.value for b in SERVED), nearest.basis.value),)


def _flat(workload: Workload, device: Device, mode: str) -> dict[str, str]:
    """Every field of an identity as text, workload fields first."""
    fields = {"workload.operator": workload.operator}
    fields |= {f"workload.{name}": _text(value) for name, value in workload.values.items()}
    fields |= {"device.backend": device.backend, "device.preset": device.preset or ABSENT}
    fields |= {f"device.{name}": _text(value) for name, value in device.limits}
    for name, value in device.facts:
        fields[f"device.facts.{name}" if f"device.{name}" in fields else f"device.{name}"] = _text(value)
    fields["mode"] = mode
    return fields


def _text(value: object) -> str:
    return ABSENT if value is None else str(value)


def _differences(wanted: Mapping[str, str], have: Mapping[str, str]) -> Iterator[Miss]:
    foreign = wanted["workload.operator"] != have["workload.operator"]
    for name in dict.fromkeys((*wanted, *have)):
        if foreign and name.startswith("workload.") and name != "workload.operator":
            continue  # fields of two operators cannot be compared
        pair = wanted.get(name, ABSENT), have.get(name, ABSENT)
        if pair[0] != pair[1]:
            yield Miss(name, *pair)


def _distance(wanted: Mapping[str, str], have: Mapping[str, str]) -> tuple[int, float]:
    """How many fields differ; among equals, how far their numbers are apart (Σ |log₂ ratio|)."""
    differences = list(_differences(wanted, have))
    return len(differences), math.fsum(_octaves(miss.wanted, miss.nearest) for miss in differences)


def _octaves(wanted: str, nearest: str) -> float:
    if wanted.isdecimal() and nearest.isdecimal() and int(wanted) and int(nearest):
        return abs(math.log2(int(wanted)) - math.log2(int(nearest)))
    return 0.0
