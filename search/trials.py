"""What a finished trial says: whether it counts, and which of its times to learn from."""

from __future__ import annotations

from fettle.backends.api import Basis, Record

NOT_RUN = (Basis.PREDICTED, Basis.ESTIMATED)
"""Bases of times of kernels that no machine or model has executed."""


def is_valid(record: Record) -> bool:
    """Whether a trial gave a right result and a time; where nothing was run there is no result to be right."""
    return record.measurement.ok and (record.verified or record.measurement.basis in NOT_RUN)


def undisturbed_seconds(record: Record) -> float:
    """The shortest of a valid trial's samples: what the search learns from and picks finalists by.

    Other processes and other guests of the machine only ever add time, for a second at a stretch, so of two times that
    the same kernel was tried the shortest samples agree best (docs/search.md). The median is what is reported and what
    the finals compare. A time that is stated is taken as it is.
    """
    if record.measurement.objective is not None:
        return record.measurement.objective
    return min(record.measurement.samples)
