"""Stores for the command-line tests: an empty one, and one with a small tuned workload."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.backends.registry import resolve_device
from fettle.store.open import open_store
from tests.face.support import DEVICE, SOFTMAX, Fettle, run_fettle


@pytest.fixture(scope="session")
def tuned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store in which SOFTMAX has been tuned for DEVICE; read only for tests."""
    folder = tmp_path_factory.mktemp("tuned")
    done = run_fettle(["tune", SOFTMAX, "--device", DEVICE, "--trials", "6", "--json"], folder)
    assert done.returncode == 0, done.stderr
    (folder / "tune.json").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def tuned(tuned_folder: Path) -> Fettle:
    """Runs ``fettle`` on the tuned store."""
    return lambda *words, **options: run_fettle(words, tuned_folder, **options)


@pytest.fixture
def profiled_folder(tuned_folder: Path, tmp_path: Path) -> Path:
    """Folder of a store that has nothing but DEVICE's profile, which takes seconds to measure."""
    with open_store(tuned_folder / "store.sqlite3") as tuned, open_store(tmp_path / "store.sqlite3") as store:
        profile = tuned.get_profile(resolve_device(DEVICE)[1].key)
        assert profile is not None
        store.put_profile(profile)
    return tmp_path


@pytest.fixture
def fresh(tmp_path: Path) -> Fettle:
    """Runs ``fettle`` on an empty store."""
    return lambda *words, **options: run_fettle(words, tmp_path, **options)
