"""The command line. One file per command; ``main`` maps errors to exit codes."""

from fettle.cli.app import main

__all__ = ["main"]
