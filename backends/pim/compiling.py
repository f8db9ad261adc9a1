"""How the engine's functions are compiled: no larger than they must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from fettle.backends.host.compiling import cached

_Function = TypeVar("_Function", bound=Callable[..., Any])
_ONLY_COMPILED = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options without which wrappers take a quarter of the time."""


def entry(function: _Function) -> _Function:
    """Compile a function that Python calls. None of these allocates: not to count references takes a tenth off the
    time to compile."""
    return cached(function, _nrt=False)


def helper(function: _Function) -> _Function:
    """Compile a function that only compiled ones call."""
    return cached(function, _nrt=False, **_ONLY_COMPILED)


def reassociated(function: _Function) -> _Function:
    """As :func:`helper`, one whose sums of floating-point numbers may be taken in any order: several at once."""
    return cached(function, _nrt=False, fastmath={"reassoc", "contract"}, **_ONLY_COMPILED)


def inlined(function: _Function) -> _Function:
    """Compile a function as part of its callers."""
    return cast(_Function, njit(inline="always")(function))
