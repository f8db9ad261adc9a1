"""Kernels, as the cache keeps them."""

from __future__ import annotations

import attrs

from fettle.backends.api import Basis, Device, Schedule
from fettle.graph import codec
from fettle.graph.workload import Workload

KERNEL_VERSION = 1
"""Version of :class:`Kernel` as stored; an unknown version is a typed miss."""


@attrs.frozen
class Kernel:
    """A verified winner, as the cache serves it. Times in seconds.

    Attributes:
        mode: ``hot`` or ``cold``: where its weights were when it was timed.
        default_s, best_s: medians of the finals; default_s is infinite if the default never gave a right result.
        best_ci: 95 % interval of the best's median.
        bound_s, bound: the roof's time and name.
        max_error, error_ratio: largest ``|kernel - reference|``, and in units of the tolerance.
        trials: how many the job made of this workload.
        created: Unix seconds.
        toolchain, abi, isa, space_version: checked when the kernel is loaded.
    """

    workload: Workload
    device: Device
    schedule: Schedule
    artifact_sha256: str
    mode: str
    basis: Basis
    default_s: float
    best_s: float
    best_ci: tuple[float, float]
    bound_s: float
    bound: str
    max_error: float
    error_ratio: float
    trials: int
    job_id: str
    created: float
    toolchain: str
    abi: str
    isa: tuple[str, ...]
    space_version: str
    version: int = KERNEL_VERSION

    @property
    def key(self) -> str:
        """The cache key."""
        return kernel_key(self.workload, self.device, self.mode, self.basis)


def kernel_key(workload: Workload, device: Device, mode: str = "hot", basis: Basis = Basis.MEASURED) -> str:
    """256-bit cache key: (workload, device identity, hot or cold, basis). Toolchains are no part of it."""
    return codec.digest(("fettle.kernel", workload.key, device.key, mode, basis.value))
