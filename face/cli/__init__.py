"""The command line. One file per command; ``app.main`` maps errors to exit codes."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the ``fettle`` command. An interrupt exits with 130, even while modules are still loading."""
    try:
        from fettle.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


__all__ = ["main"]
