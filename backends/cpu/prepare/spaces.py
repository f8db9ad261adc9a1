"""Schedules of the family ``prepare``.

===========  ============================================================
``unroll``   vectors of a step, each with a maximum of its own
``threads``  threads that share the (row, group) pairs
===========  ============================================================
"""

from __future__ import annotations

from fettle.backends.api import Constraint, Device, Parameter, Schedule, Space, Support
from fettle.backends.cpu import device as cpu
from fettle.graph.workload import Workload

VERSION = "prepare-1"

_LANES = 16
_UNROLLS = (1, 2, 4, 8)


def supports(workload: Workload, device: Device) -> Support:
    """Results whose bytes 32-bit offsets reach."""
    if workload.result.size >= 2**29:
        return Support.no("a result of more than 2^31 bytes")
    return Support.yes()


def space(workload: Workload, device: Device) -> Space:
    """All schedules."""
    pairs = workload["rows"] * workload["out"].groups(workload["cols"])
    parameters = (Parameter("unroll", _unrolls(workload)), Parameter("threads", cpu.thread_counts(device)))
    return Space(parameters, (Constraint(f"threads <= {pairs}", "every thread has a group"),), VERSION)


def default(workload: Workload, device: Device) -> Schedule:
    """One thread, which is rarely too few: waking another takes as long as thousands of activations."""
    return Schedule.of(unroll=_unrolls(workload)[-1], threads=1)


def _unrolls(workload: Workload) -> tuple[int, ...]:
    """Steps that a group is whole in."""
    return tuple(vectors for vectors in _UNROLLS if workload["out"].group % (vectors * _LANES) == 0)
