"""A trial as a record: what was built, whether it is right, how long it takes."""

from __future__ import annotations

import attrs

from fettle.backends.api import Record
from fettle.backends.host.executor import BuildResult, Session


def tried(session: Session, record: Record, build: BuildResult) -> Record:
    """A record of a candidate with what became of it: it is verified and measured, if it could be built.

    ``seconds`` and what is expected of it (features, predictions) are the caller's to add.
    """
    artifact = build.artifact
    if artifact is None:
        return attrs.evolve(record, measurement=build.problem)
    trial = session.evaluate(build.candidate, artifact)
    return attrs.evolve(
        record,
        measurement=trial.measurement,
        verified=trial.verified,
        max_error=trial.max_error,
        error_ratio=trial.error_ratio,
        artifact_sha256=artifact.sha256,
        artifact_bytes=len(artifact.payload) or None,
        toolchain=artifact.toolchain,
    )
