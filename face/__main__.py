"""``python -m fettle``."""

from fettle.cli import main

main()
