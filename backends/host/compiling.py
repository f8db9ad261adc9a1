"""What Numba is told that compiles loops of the simulators: when to collect garbage, where its cache is, and what that
depends on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _OutsidePackage(CompileResultCacheImpl):
    """In NUMBA_CACHE_DIR or the user's cache folder, and beside the function only if neither can be written: files that
    an installer did not write outlive the package, and their folders then hide another installation of it."""

    _locator_classes = sorted(CompileResultCacheImpl._locator_classes, key=lambda kind: "InTree" in kind.__name__)


class PackageCache(FunctionCache):
    """Numba's cache on disk, stale when any file of the function's package changes: Numba looks at the function's own
    file only, and would go on with what it compiled of the functions that it calls."""

    _impl_class = _OutsidePackage

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _package_stamp(Path(function.__code__.co_filename).parent)
        base = self._impl.filename_base
        self._cache_file = IndexDataCacheFile(self.cache_path, base, stamp)  # type: ignore[no-untyped-call]


def cached(function: _Function, **options: Any) -> _Function:
    """A function compiled, and kept in a :class:`PackageCache`; ``options`` as of ``njit``."""
    dispatcher = njit(**options)(function)
    dispatcher._cache = PackageCache(function)
    return cast(_Function, dispatcher)


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage is collected meanwhile: what Numba builds lives until it has compiled a function, and to look through
    it again and again takes a tenth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@cache
def _package_stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the modules in a folder."""
    found = ((path.name, path.stat()) for path in sorted(folder.glob("*.py")))
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in found)
