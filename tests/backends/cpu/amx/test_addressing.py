"""Memory operands of every form, and faults where a processor faults."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.backends.cpu.amx import emulator


@pytest.fixture(scope="module")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if emulator.compiler() is None:
        pytest.skip("needs a C compiler named cc")
    return emulator.compiled("addressing.c", tmp_path_factory.mktemp("addressing"))


def test_bases_displacements_and_scaled_indices_are_where_the_encoding_says(instructions: Path) -> None:
    source = np.random.default_rng(0).integers(0, 256, 4096, np.uint8)
    target = np.zeros((4, 16, 64), np.uint8)
    ctypes.CDLL(str(instructions)).forms(*(ctypes.c_void_p(a.ctypes.data) for a in (source, target)))
    for tile, (start, stride) in enumerate([(0, 64), (100, 128), (0, 0), (2048, -32)]):
        for row in range(16):
            np.testing.assert_array_equal(target[tile, row], source[start + row * stride :][:64])


def test_a_product_without_a_configuration_is_still_illegal(instructions: Path, library: ctypes.CDLL | None) -> None:
    program = f"import ctypes; ctypes.CDLL({str(instructions)!r}).unconfigured()"
    if library is not None:
        program = f"import ctypes; ctypes.CDLL({library._name!r}).amx_install(); {program}"
    result = subprocess.run([sys.executable, "-S", "-c", program], check=False, timeout=60, capture_output=True)
    assert result.returncode == -signal.SIGILL
