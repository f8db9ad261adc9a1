"""Kernels and the rows of artifacts, inside a transaction of the caller."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Row, bindparam, select
from sqlalchemy.orm import Session

from fettle.backends.api import Artifact
from fettle.graph.errors import InvalidArgument
from fettle.store.kernels import KERNEL_VERSION, Kernel
from fettle.store.missing import no_artifact
from fettle.store.sql.catalogue import Catalogue, batches, upsert
from fettle.store.sql.models import ArtifactRow, KernelRow

_log = logging.getLogger(__name__)

_READ = select(KernelRow.key, KernelRow.version, KernelRow.workload_key, KernelRow.device_key, KernelRow.data)
"""What a kernel is read from: columns, not objects, since look-ups are what a server does most."""

_BY_KEY = _READ.where(KernelRow.key.in_(bindparam("keys", expanding=True)))
"""Made once: making it takes longer than SQLite does to answer it."""


def put_artifact(session: Session, artifact: Artifact, sha256: str, size: int, now: float) -> None:
    """Note an artifact whose file is written."""
    row = {
        "sha256": sha256,
        "size": size,
        "kind": artifact.kind,
        "abi": artifact.abi,
        "toolchain": artifact.toolchain,
        "isa": " ".join(artifact.isa),
        "created": now,
    }
    upsert(session, ArtifactRow, row, replace=True)  # its time counts: what was stored again is not pruned


def find_artifact(session: Session, sha256: str) -> ArtifactRow:
    """The row of an artifact. Raises NotFound."""
    row = session.get(ArtifactRow, sha256)
    if row is None:
        raise no_artifact(sha256)
    return row


def put(session: Session, catalogue: Catalogue, kernel: Kernel) -> None:
    """Store or replace a kernel."""
    find_artifact(session, kernel.artifact_sha256)
    row = {
        "key": kernel.key,
        "workload_key": catalogue.put_workload(session, kernel.workload),
        "device_key": catalogue.put_device(session, kernel.device),
        "artifact_sha256": kernel.artifact_sha256,
        "operator": kernel.workload.operator,
        "mode": kernel.mode,
        "basis": kernel.basis.value,
        "default_s": kernel.default_s,
        "best_s": kernel.best_s,
        "toolchain": kernel.toolchain,
        "abi": kernel.abi,
        "isa": " ".join(kernel.isa),
        "space_version": kernel.space_version,
        "version": kernel.version,
        "created": kernel.created,
        "data": catalogue.dumps(kernel),
    }
    upsert(session, KernelRow, row, replace=True)


def get(session: Session, catalogue: Catalogue, keys: Sequence[str]) -> dict[str, Kernel]:
    """The kernels of cache keys, as far as this version can read them."""
    found: dict[str, Kernel] = {}
    for some in batches(set(keys)):
        rows = session.connection().execute(_BY_KEY, {"keys": some}).all()
        found.update((kernel.key, kernel) for kernel in _load(session, catalogue, rows))
    return found


def select_kernels(
    session: Session, catalogue: Catalogue, device_key: str | None, operator: str | None, limit: int
) -> tuple[Kernel, ...]:
    """Kernels, newest first."""
    query = _READ.where(KernelRow.version == KERNEL_VERSION)
    if device_key is not None:
        query = query.where(KernelRow.device_key == device_key)
    if operator is not None:
        query = query.where(KernelRow.operator == operator)
    query = query.order_by(KernelRow.created.desc(), KernelRow.key).limit(limit)
    return _load(session, catalogue, session.connection().execute(query).all())


def _load(session: Session, catalogue: Catalogue, rows: Sequence[Row[str, int, str, str, str]]) -> tuple[Kernel, ...]:
    known = [row for row in rows if row.version == KERNEL_VERSION]
    catalogue.load(session, {row.workload_key for row in known}, {row.device_key for row in known})
    kernels = []
    for row in known:
        try:
            kernels.append(catalogue.loads(Kernel, row.data))
        except InvalidArgument as error:
            _log.warning("left out kernel %s: %s", row.key, error)
    return tuple(kernels)
