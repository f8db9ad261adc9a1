"""A group whose commands are imported when they are asked for: each needs modules that the others do without."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import typer.main
from typer.core import TyperGroup


class LazyCommands(Mapping[str, Any]):
    """Typer's commands by name, each made of what its module holds on first use.

    Args:
        homes: for each name, ``module:attribute``; a function, or a Typer application with commands of its own.
        rich_markup_mode: how their help texts are read.
    """

    def __init__(self, homes: Mapping[str, str], rich_markup_mode: Any) -> None:
        self._homes = homes
        self._markup = rich_markup_mode
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, attribute = self._homes[name].split(":")
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

    homes: ClassVar[Mapping[str, str]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commands: Any = LazyCommands(self.homes, self.rich_markup_mode)

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, without loading them."""
        return list(self.commands)
