"""``fettle db``."""

from __future__ import annotations

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

    Example: fettle db upgrade --store /var/lib/fettle/fettle.sqlite3
    """
    from fettle.store.open import open_store

    with open_store(store, upgrade=True) as opened:
        stats = opened.stats()
    stdout.print(f"up to date: {stats.kernels} kernels, {stats.records} records, {stats.jobs} jobs", highlight=False)
