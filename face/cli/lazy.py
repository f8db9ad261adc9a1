"""A group whose commands are imported when they are run: each needs modules that the others do without."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import typer.main
from typer.core import TyperCommand, TyperGroup


class Home(NamedTuple):
    """Where a command is.

    Attributes:
        place: ``module:attribute``; a function, or a Typer application with commands of its own.
        summary: the first paragraph of its help text, which a list of commands shows without importing them.
    """

    place: str
    summary: str


class LazyCommands(Mapping[str, Any]):
    """Typer's commands by name, each made of what its module holds on first use.

    Args:
        homes: where they are.
        rich_markup_mode: how their help texts are read.
    """

    def __init__(self, homes: Mapping[str, Home], rich_markup_mode: Any) -> None:
        self._homes = homes
        self._markup = rich_markup_mode
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, attribute = self._homes[name].place.split(":")
            found = getattr(importlib.import_module(module), attribute)
            one = typer.Typer(rich_markup_mode=self._markup)
            if isinstance(found, typer.Typer):
                one.add_typer(found, name=name)
            else:
                one.command(name)(found)
            self._loaded[name] = typer.main.get_group(one).commands[name]
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


class LazyGroup(TyperGroup):
    """Subclasses say in ``homes`` where their commands are; see :class:`LazyCommands`."""

    homes: ClassVar[Mapping[str, Home]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commands: Any = LazyCommands(self.homes, self.rich_markup_mode)

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, without loading them."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """With summaries in place of the commands."""
        commands = self.commands
        self.commands = {name: TyperCommand(name, help=home.summary) for name, home in self.homes.items()}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = commands
