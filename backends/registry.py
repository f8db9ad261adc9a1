"""Finds backends through the entry-point group ``fettle.backends`` and resolves device texts."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import metadata

from fettle.backends.api import Backend, Device, DeviceText
from fettle.graph.errors import FettleError, NotFound, Unsupported

GROUP = "fettle.backends"


def backend_names() -> tuple[str, ...]:
    """Names of all registered backends, sorted."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=GROUP)}))


def usable_backends() -> tuple[Backend, ...]:
    """All registered backends but those that lack something here (:func:`get_backend` says what)."""
    found = []
    for name in backend_names():
        with suppress(Unsupported):
            found.append(get_backend(name))
    return tuple(found)


@cache
def get_backend(name: str) -> Backend:
    """The backend registered under a name (one instance per process).

    Raises:
        NotFound: no such backend.
        Unsupported: it is registered but cannot be imported; the reason is given.
    """
    for point in metadata.entry_points(group=GROUP):
        if point.name == name:
            try:
                backend = point.load()()
            except FettleError:
                raise
            except Exception as error:  # a plugin's import may fail in any way; say which plugin
                raise Unsupported(f"backend {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
            if not isinstance(backend, Backend):
                raise Unsupported(f"entry point {name!r} is not a fettle backend: {point.value}")
            if backend.name != name:  # devices name their backend, and are looked up by that name
                raise Unsupported(
                    f"entry point {name!r} is a backend that calls itself {backend.name!r}",
                    hint="register it under its name",
                )
            return backend
    raise NotFound(f"no backend named {name!r}", hint=f"installed backends: {' '.join(backend_names()) or 'none'}")


def resolve_device(text: str) -> tuple[Backend, Device]:
    """The backend and device a device text names.

    Raises:
        InvalidDevice, NotFound, Unsupported: see :meth:`Backend.device`.
    """
    parsed = DeviceText.parse(text)
    backend = get_backend(parsed.backend)
    return backend, backend.device(parsed)
