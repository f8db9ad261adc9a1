"""What the store knows of an operator from other devices and other shapes: the tuner's head start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fettle.backends.api import Device, Record, Space
from fettle.costmodel.transfer import Trials
from fettle.graph import codec
from fettle.graph.workload import Workload
from fettle.search import objectives
from fettle.search.trials import is_valid, undisturbed_seconds
from fettle.store.api import Store

_LOOKED_AT = 4000
"""Records that are read, the newest."""

_MOST_SOURCES = 6
"""(workload, device) pairs that are made use of, those with the most trials."""


def trials_elsewhere(
    store: Store,
    workload: Workload,
    device: Device,
    space: Space,
    job_id: str,
    minimise: Sequence[str] = ("latency",),
) -> list[Trials]:
    """Trials of the same operator and the same parameters that earlier jobs made, one entry a (workload, device).

    Only of jobs created before ``job_id``, so that a job that stops and resumes knows what it knew. Those of the very
    workload and device are among them: with ``--force`` a search begins where the last one ended.

    Args:
        minimise: objectives, latency first. Trials that do not tell all of them are left out.
    """
    found: dict[tuple[str, str], list[Record]] = {}
    names = set(space.names)
    for record in store.records(operator=workload.operator, before_job=job_id, limit=_LOOKED_AT):
        candidate = record.candidate
        same = candidate.device.backend == device.backend and record.space_version == space.version
        told = not is_valid(record) or objectives.are_told(record, minimise)
        if same and told and candidate.schedule.as_dict().keys() == names:
            found.setdefault((candidate.workload.key, candidate.device.key), []).append(record)
    largest = sorted(found, key=lambda key: (-len(found[key]), key))[:_MOST_SOURCES]
    return [_trials(found[key], codec.digest(("fettle.source", *key, space.version)), minimise[1:]) for key in largest]


def on_other_devices(store: Store, workload: Workload, device: Device, space: Space) -> list[Trials]:
    """Trials of the very workload and the same parameters on other devices, one entry a device."""
    found: dict[str, list[Record]] = {}
    for record in store.records(workload_key=workload.key):
        candidate = record.candidate
        same = record.space_version == space.version and candidate.schedule.as_dict().keys() == set(space.names)
        if same and candidate.device.key != device.key:
            found.setdefault(candidate.device.key, []).append(record)
    return [_trials(records, "", ()) for _, records in sorted(found.items())]


def grouped(records: Sequence[Record]) -> list[list[Record]]:
    """Valid trials by (workload, device, parameters, mode), the largest group first; each schedule once, the newest.

    Args:
        records: newest first.
    """
    groups: dict[tuple[object, ...], dict[str, Record]] = {}
    for record in filter(is_valid, records):
        c = record.candidate
        key = (c.workload.key, c.device.key, frozenset(c.schedule.as_dict()), record.policy.mode)
        groups.setdefault(key, {}).setdefault(c.key, record)
    return sorted((list(group.values()) for group in groups.values()), key=len, reverse=True)


def _trials(records: Sequence[Record], origin: str, others: Sequence[str]) -> Trials:
    failed = (math.inf,) * (1 + len(others))
    figures = np.array(
        [
            (math.log(undisturbed_seconds(r)), *objectives.logarithms(r, others)) if is_valid(r) else failed
            for r in records
        ]
    )
    return Trials(tuple(r.candidate.schedule for r in records), figures[:, 0], origin, tuple(figures[:, 1:].T))
