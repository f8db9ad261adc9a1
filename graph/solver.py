"""CP-SAT, as everything here uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


def cp_solver(*, workers: int = 1, seconds: float | None = None) -> cp_model.CpSolver:
    """A solver that leaves Ctrl-C to Python: by default it takes the signal, and gives it back to the system's
    default, which ends the process.

    Args:
        seconds: after which it gives what it has.
    """
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.catch_sigint_signal = False
    solver.parameters.num_workers = workers
    if seconds is not None:
        solver.parameters.max_time_in_seconds = seconds
    return solver
