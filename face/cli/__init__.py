"""The command line. One file per command; ``app.main`` maps errors to exit codes."""

import gc
import os
import sys
from typing import NoReturn

_ALLOCATIONS = 50_000
"""Objects made between two collections: what is imported stays, and looking through it at Python's usual 700 takes a
third of a second of a command that tunes a simulated device."""


def main() -> NoReturn:
    """Entry point of the ``fettle`` command. An interrupt exits with 130, even while modules are still loading."""
    gc.set_threshold(_ALLOCATIONS)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what its core prints is in our errors, said once
    try:
        from fettle.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # the process ends: collecting all that Numba and SQLAlchemy made would take half a second


__all__ = ["main"]
