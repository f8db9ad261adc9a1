"""Builds a candidate in the calling process; what a backend refuses is a typed failure of that one candidate."""

from __future__ import annotations

import time

from fettle.backends.api import Backend, Basis, Candidate, Measurement, Outcome
from fettle.backends.host.executor import BuildResult
from fettle.graph.errors import BuildFailure, FettleError, InvalidArgument, Unsupported

REFUSALS = (BuildFailure, InvalidArgument, Unsupported)
"""What :meth:`Backend.build` may raise of a candidate that is not to be built."""


def build_here(backend: Backend, candidate: Candidate, basis: Basis = Basis.MEASURED) -> BuildResult:
    """The artifact, or why there is none.

    Args:
        basis: of the times of candidates that are built.
    """
    begun = time.perf_counter()
    artifact, failure = None, None
    try:
        artifact = backend.build(candidate)
    except REFUSALS as error:
        failure = refusal(error, basis)
    return BuildResult(candidate, artifact, failure, time.perf_counter() - begun)


def refusal(error: FettleError, basis: Basis = Basis.MEASURED) -> Measurement:
    """One of :data:`REFUSALS` as the outcome of a trial."""
    outcome = Outcome.COMPILE_ERROR if isinstance(error, BuildFailure) else Outcome.INVALID
    return Measurement.failure(outcome, str(error), basis)
