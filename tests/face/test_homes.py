"""The list of commands says of each what the command says itself."""

from __future__ import annotations

import typer.main

from fettle.cli.app import app
from fettle.cli.homes import HOMES


def test_summaries_are_first_paragraphs_of_the_commands_help() -> None:
    commands = typer.main.get_group(app).commands
    assert {name: home.summary for name, home in HOMES.items()} == {
        name: (commands[name].help or "").split("\n\n")[0] for name in commands
    }
