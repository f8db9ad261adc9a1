"""What Numba is told that compiles the simulators."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

import pytest

from fettle.backends.host import compiling
from fettle.backends.host.compiling import without_collection

_CALLER = """
from fettle.backends.host.compiling import cached
from toy.callee import one

@cached
def twice(n):
    return one(n) + one(n)
"""
_CALLEE = """
from fettle.backends.host.compiling import cached

@cached
def one(n):
    return n + {}
"""


def test_a_function_is_compiled_again_if_only_what_it_calls_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "caller.py").write_text(_CALLER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))

    def call(added: int) -> tuple[int, int]:
        """What a process makes of the package, and how much it finds in the cache."""
        (package / "callee.py").write_text(_CALLEE.format(added))
        os.utime(package / "callee.py", (added, added))
        importlib.invalidate_caches()
        compiling._package_stamp.cache_clear()
        for name in ("toy", "toy.caller", "toy.callee"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        twice = importlib.import_module("toy.caller").twice
        return twice(1), sum(twice.stats.cache_hits.values())

    assert [call(1), call(1), call(2)] == [(4, 0), (4, 1), (6, 0)]
    assert {path.suffix for path in package.rglob("*") if path.is_file()} <= {".py", ".pyc"}


def test_what_is_compiled_lies_outside_the_package() -> None:
    from fettle.backends.npu.systolic import compiled

    caches = {f._cache.cache_path for f in vars(compiled).values() if hasattr(f, "_cache")}
    assert caches
    assert not any(Path(folder).is_relative_to(Path(compiled.__file__).parent) for folder in caches)


def test_garbage_is_collected_again_afterwards_unless_it_was_not_before() -> None:
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with without_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
