"""An executor on the fake backend, and short ways to say what its kernels should do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers import the fake backend by name

from fake_backend import DEVICE, FakeBackend
from helpers import POLICY, QUANTISED

from fettle.backends.host.executor import Executor, Session
from fettle.backends.host.local import LocalExecutor


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with LocalExecutor(FakeBackend(), DEVICE, builders=2, memory_limit=128 << 20) as running:
        yield running


@pytest.fixture
def session(executor: Executor) -> Iterator[Session]:
    with executor.open(QUANTISED, POLICY, seed=1) as opened:
        yield opened
