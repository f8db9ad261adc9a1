"""Interrupts after a solve."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, time
from ortools.sat.python import cp_model
from fettle.graph.solver import cp_solver

model = cp_model.CpModel()
model.maximize(model.new_int_var(0, 10, "x"))
cp_solver().solve(model)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_still_pythons_after_a_solve() -> None:
    """CP-SAT by itself would leave the signal's default, and the process would be gone."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
