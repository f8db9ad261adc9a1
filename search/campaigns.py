"""Kernels that were measured elsewhere, decided and stored here."""

from __future__ import annotations

from pathlib import Path

from fettle.backends.api import Artifact, Basis
from fettle.backends.registry import get_backend
from fettle.backends.triton.results import ARTIFACTS, DEVICE, Final, Machine, read_finals, read_machine
from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument, NotFound
from fettle.search.finals import Finalist, judge
from fettle.search.results import won_kernel
from fettle.store.api import Store
from fettle.store.kernels import Kernel


def import_campaign(store: Store, folder: Path) -> list[Kernel]:
    """Store the winner of each workload whose finals a campaign has played.

    The rules are those of a job's finals: a winner beats the default beyond the noise, a tie goes to the default.

    Raises:
        NotFound: the folder has no campaign in it, or one that has played no finals yet.
        InvalidArgument: a file of it is malformed, or holds times that were not measured.
        DataLoss: an artifact is missing, or not what its name says.
    """
    machine = read_machine(folder)
    if machine is None:
        raise NotFound(f"{folder} has no {DEVICE}", hint="name the folder that fettle gpu-measure wrote")
    finals = read_finals(folder)
    if not finals:
        raise NotFound(
            f"no finals were played in {folder}", hint="go on with fettle gpu-measure until it no longer exits with 3"
        )
    store.put_device(machine.device)
    store.put_profile(machine.profile)
    decided = [_decided(folder, machine, final) for final in finals]
    won = [winner for winner in decided if winner is not None]
    for kernel, artifact in won:
        store.put_artifact(artifact)
        store.put_kernel(kernel)
    return [kernel for kernel, _ in won]


def _decided(folder: Path, machine: Machine, final: Final) -> tuple[Kernel, Artifact] | None:
    """The winner as the cache holds it, and its artifact; None if none could be measured."""
    if not final.records or len(final.records) != len(final.measurements):
        raise InvalidArgument(f"{folder}: finals without a measurement for each record")
    workload = final.records[0].candidate.workload
    for record, measurement in zip(final.records, final.measurements, strict=True):
        trusted = record.verified and measurement.basis is Basis.MEASURED
        if not trusted or record.candidate.device != machine.device or record.candidate.workload != workload:
            raise InvalidArgument(f"{folder}: a finalist of {workload} was not verified and measured on its GPU")
    finalists = [Finalist(record, _artifact(folder, record.artifact_sha256)) for record in final.records]
    backend = get_backend(machine.device.backend)
    has_default = final.records[0].candidate.schedule == backend.default(workload, machine.device)
    verdict = judge(finalists, final.measurements, has_default)
    if verdict is None:
        return None
    bound = backend.bound(workload, machine.device, machine.profile)
    kernel = won_kernel(verdict, bound, len(final.records), "", (folder / DEVICE).stat().st_mtime)
    return kernel, verdict.winner.artifact


def _artifact(folder: Path, sha256: str) -> Artifact:
    try:
        artifact = codec.loads(Artifact, (folder / ARTIFACTS / sha256).read_bytes())
    except (OSError, InvalidArgument) as error:
        raise DataLoss(f"the artifact {sha256} of {folder} cannot be read: {error}") from None
    if artifact.sha256 != sha256:
        raise DataLoss(f"the artifact {sha256} of {folder} is not what its name says")
    return artifact
