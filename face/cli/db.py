"""``fettle db``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli.options import StoreOption
from fettle.cli.output import stdout

app = typer.Typer(help="Maintain the database.", no_args_is_help=True)


@app.callback()
def _db() -> None:
    pass


@app.command()
def upgrade(store: StoreOption = None) -> None:
    """Bring the database to this version's schema; nothing stored is lost.

    Example: fettle db upgrade
    """
    from fettle.store.open import open_store

    with open_store(store, upgrade=True) as opened:
        stats = opened.stats()
    stdout.print(f"up to date: {stats.kernels} kernels, {stats.records} trials, {stats.jobs} jobs", highlight=False)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder; it is a store afterwards.")],
    store: StoreOption = None,
) -> None:
    """Copy a SQLite store with its artifacts, while servers go on using it.

    Example: fettle db backup fettle-monday
    """
    from fettle.store.backup import back_up

    copy = back_up(store, folder)
    stdout.print(f"copied to {copy}", highlight=False, soft_wrap=True)
