"""``fettle.lookup``: from a workload to a callable kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fettle.backends.api import Artifact, Backend, Candidate, Device
from fettle.backends.registry import resolve_device
from fettle.graph.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from fettle.graph.workload import Workload
from fettle.kernel import Kernel
from fettle.store.api import Store
from fettle.store.lookup import LookupResult, Miss
from fettle.store.lookup import lookup as lookup_stored
from fettle.store.open import store_at

if TYPE_CHECKING:
    from fettle.service.client import Client


def lookup(
    workload: Workload | str,
    device: str = "cpu",
    *,
    store: Store | str | os.PathLike[str] | None = None,
    server: Client | None = None,
    mode: str = "hot",
    default: bool = True,
) -> Kernel:
    """The kernel for a workload: the cached winner, else the untuned default schedule, built now.

    Args:
        workload: a workload or its text.
        device: device text.
        store: an open store, its URL or path (which may be read-only), or None for the user's own store.
        server: a client of a server that is asked instead, for a kernel of this machine's device; what it answers is
            loaded here, and kept nowhere.
        mode: ``hot`` or ``cold``, as tuned.
        default: build the default schedule on a miss (needs the backend's compiler; about a second).

    Raises:
        InvalidWorkload, InvalidDevice, InvalidArgument: malformed texts, or none at all; both a store and a server.
        NotFound: no cached kernel, and ``default`` is false; details name what differs from the nearest one.
        Unsupported: no cached kernel, and the backend cannot do the workload at all.
        DataLoss: the cached artifact is damaged or lost; see :func:`untuned`.
    """
    wanted = workload if isinstance(workload, Workload) else Workload.parse(workload)
    backend, resolved = resolve_device(device)
    with _asked(store, server, wanted, resolved, mode) as (found, fetch):
        misses = found.misses
        if found.kernel is not None:
            try:
                artifact = fetch(found.kernel.artifact_sha256)
                loaded = backend.load(artifact)
                return Kernel(wanted, resolved, artifact, loaded, match="exact", stored=found.kernel)
            except Unsupported as error:
                misses = (Miss("artifact", "loadable here", error.message),)
            except NotFound as error:
                raise DataLoss(error.message, hint="tune again: fettle tune") from error
    if not default:
        differing = "; ".join(f"{miss.field}: wanted {miss.wanted}, nearest {miss.nearest}" for miss in misses)
        raise NotFound(
            f"no tuned kernel for {wanted} on {resolved} ({differing})",
            hint=f'fettle tune "{wanted}" --device {resolved}{" --cold" if mode == "cold" else ""}'
            + (" --server HOST:PORT" if server is not None else ""),
            details={miss.field: f"wanted {miss.wanted}, nearest {miss.nearest}" for miss in misses},
        )
    return untuned(wanted, backend, resolved, misses)


@contextmanager
def _asked(
    store: Store | str | os.PathLike[str] | None, server: Client | None, workload: Workload, device: Device, mode: str
) -> Iterator[tuple[LookupResult, Callable[[str], Artifact]]]:
    """What a store or a server has of a workload, and what fetches artifacts from there."""
    if server is not None:
        if store is not None:
            raise InvalidArgument("a store and a server exclude each other", hint="the server has its own store")
        if not hasattr(server, "artifact"):  # Python callers pass anything
            raise InvalidArgument(
                f"a server is a client, not {type(server).__name__}", hint='write server=fettle.connect("HOST:PORT")'
            )
        yield server.lookup(workload, device, mode=mode), server.artifact
        return
    with store_at(store) as opened:
        yield lookup_stored(opened, workload, device, mode), opened.get_artifact


def untuned(workload: Workload, backend: Backend, device: Device, misses: tuple[Miss, ...]) -> Kernel:
    """The default schedule's kernel, built now, without a look into the cache.

    Args:
        misses: why it is not a cached one.

    Raises:
        Unsupported: the backend cannot do the workload at all.
    """
    support = backend.supports(workload, device)
    if not support:
        raise Unsupported(f"backend {backend.name} cannot do {workload}: {support.reason}")
    artifact = backend.build(Candidate(workload, device, backend.default(workload, device)))
    return Kernel(workload, device, artifact, backend.load(artifact), match="default", misses=misses)
