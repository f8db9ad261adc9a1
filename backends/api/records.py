"""Finished trials as they are stored. fettle makes them; a backend never does."""

from __future__ import annotations

import attrs

from fettle.backends.api.candidates import Candidate
from fettle.backends.api.measurements import Measurement, MeasurePolicy

RECORD_VERSION = 1
"""Version of :class:`Record` as stored. A reader meets an unknown version as a typed miss, never a crash."""


@attrs.frozen
class Record:
    """One finished trial as stored.

    Attributes:
        verified: the kernel's results were within the workload's declared bound.
        max_error: largest ``|kernel - reference|``; None if it never ran.
        error_ratio: largest ``|kernel - reference| / tolerance``; at most 1 when verified.
        seconds: wall time the trial took, build and measurement.
        features: the cost model's inputs, as built.
        predicted: log(time / bound) the cost model expected before measuring, or None.
        predicted_std: its standard deviation, or None.
        artifact_bytes: size of the artifact's payload; None if nothing was built (nor in a recording).
    """

    candidate: Candidate
    measurement: Measurement
    policy: MeasurePolicy
    verified: bool = False
    max_error: float | None = None
    error_ratio: float | None = None
    artifact_sha256: str = ""
    toolchain: str = ""
    space_version: str = "1"
    record_version: int = RECORD_VERSION
    seconds: float = 0.0
    features: tuple[tuple[str, float], ...] = ()
    predicted: float | None = None
    predicted_std: float | None = None
    artifact_bytes: int | None = None
