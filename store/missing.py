"""The errors for what is not stored, the same from every implementation."""

from __future__ import annotations

from fettle.graph.errors import NotFound


def no_job(job_id: str) -> NotFound:
    """There is no job of that id."""
    return NotFound(f"no job {job_id[:80]!r}", hint="fettle jobs list shows all jobs", details={"job": job_id[:80]})


def no_artifact(sha256: str) -> NotFound:
    """There is no artifact of that hash."""
    return NotFound(f"no artifact {sha256[:80]!r}", details={"sha256": sha256[:80]})
