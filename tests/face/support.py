"""Runs the ``fettle`` command on a store of a test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SOFTMAX = "softmax rows=8 cols=96 act=f32"
DEVICE = "cpu,threads=1"

Fettle = Callable[..., subprocess.CompletedProcess[str]]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    return {**os.environ, "FETTLE_STORE": str(folder / "store.sqlite3"), "COLUMNS": "200", **changes}


def run_fettle(words: Sequence[str], folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fettle", *words],
        capture_output=True,
        text=True,
        env=environment(folder, **changes),
        cwd=folder,
        timeout=240,
        check=False,
    )


def parsed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object on stdout."""
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value
