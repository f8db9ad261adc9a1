"""The device's roofs during a job, and bounds that no measurement contradicts."""

from __future__ import annotations

import math
from collections.abc import Callable

from fettle.backends.api import Backend, Bound, Device, Profile, Roof
from fettle.backends.host.executor import Executor
from fettle.backends.returned import returned
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.store.api import Store


class Roofs:
    """The stored profile of a device, measured when there is none, and once again when a kernel beats it.

    A roof is what the hardware can do, so of two measurements the higher one is nearer to it: the other was
    disturbed. A second profile raises roofs and never lowers them.
    """

    def __init__(
        self, store: Store, backend: Backend, device: Device, executor: Executor, on_measure: Callable[[], None]
    ) -> None:
        self._store = store
        self._backend = backend
        self._device = device
        self._executor = executor
        self._on_measure = on_measure
        self._doubted = False
        self.profile = store.get_profile(device.key) or self._measure()

    def bound(self, workload: Workload) -> Bound:
        """The time no schedule can beat, as far as is known.

        Raises:
            InvalidArgument: the backend's is no Bound, or no time; the search compares logarithms with it.
        """
        found = self._backend.bound(workload, self._device, self.profile)
        bound = returned(found, Bound, self._backend, "bound")
        if not 0 < bound.seconds < math.inf:
            raise InvalidArgument(
                f"the bound of {workload} on {self._device} is {bound.seconds} s",
                hint='it must be a positive time: Bound(1e-9, "tick") where the backend knows no roof',
            )
        return bound

    def bound_below(self, workload: Workload, seconds: float) -> Bound:
        """The bound, after measuring the roofs again (once a job) if ``seconds`` were measured and are below it."""
        bound = self.bound(workload)
        if seconds >= bound.seconds or self._doubted:
            return bound
        self._doubted = True
        self.profile = higher(self.profile, self._measure())
        self._store.put_profile(self.profile)
        return self.bound(workload)

    def _measure(self) -> Profile:
        self._on_measure()
        profile = self._executor.profile()
        self._store.put_profile(profile)
        return profile


def higher(one: Profile, two: Profile) -> Profile:
    """Every roof of two profiles of a device, the higher value where both have it."""
    roofs: dict[tuple[str, int], Roof] = {}
    for roof in (*one.roofs, *two.roofs):
        known = roofs.get((roof.name, roof.threads))
        if known is None or roof.value > known.value:
            roofs[roof.name, roof.threads] = roof
    measured = {name for name, _ in roofs}
    missing = {name: why for name, why in (*one.missing, *two.missing) if name not in measured}
    return Profile(one.device_key, tuple(roofs.values()), tuple(missing.items()))
