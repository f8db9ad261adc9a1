"""Commands as people copy them from the help and the documentation: the options exist and take such values."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fettle.cli.app import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^( *)```(?:sh|console)?\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_PROGRAM: Any = typer.main.get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    if not hasattr(group, "commands"):
        yield path, group
        return
    for name, command in group.commands.items():
        yield from commands(command, (*path, name))


def helps() -> list[tuple[str, str]]:
    return [(" ".join(path), " ".join((command.help or "").split())) for path, command in commands(_PROGRAM)]


def documented() -> Iterator[str]:
    for document in DOCUMENTS:
        for _, block in _FENCED.findall(document.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"\s*(?:\$ )?(?:.* && )?(fettle [a-z].*)", line)
                if found and not found[1].startswith("fettle COMMAND"):
                    yield found[1]


def check(text: str) -> None:
    """Raises the errors of usage that the program would end with before it does anything."""
    words = shlex.split(text, comments=True)[1:]
    if words[-1] == "&":
        words.pop()
    command, name = _PROGRAM, "fettle"
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(typer.Context(command), words)
    command.make_context(name, words).close()


@pytest.mark.parametrize(("name", "text"), helps(), ids=lambda value: value if len(value) < 40 else "help")
def test_every_command_has_an_example_that_it_takes(name: str, text: str) -> None:
    assert "Example" in text
    examples = re.findall(rf"fettle {name}\b.*?(?=$| · | - fettle | Examples?: |\. [A-Z])", text.split("Example", 1)[1])
    assert examples
    for example in examples:
        check(example)


@pytest.mark.parametrize("text", sorted(set(documented())))
def test_documented_commands_are_taken(text: str) -> None:
    check(text)


def test_checking_finds_options_that_do_not_exist() -> None:
    with pytest.raises(Exception, match="No such option"):
        check("fettle tune recorded --no-such-option 3")
    with pytest.raises(Exception, match="'ironed'"):
        check("fettle jobs list --state ironed")


_WRITES = {"-o", "--out", "--corpus", "--parquet", "--plot"}
_FILE = re.compile(r"(?:replay:)?(\S+\.(?:onnx|csv|json|json\.gz|parquet|svg)|bench/\S+)")


def test_files_that_examples_read_are_there_or_written_by_another_example() -> None:
    read: set[str] = set()
    written: set[str] = set()
    for _, text in helps():
        words = shlex.split(text.replace("'", ""))
        for before, word in itertools.pairwise(words):
            if found := _FILE.fullmatch(word.rstrip(".")):
                (written if before in _WRITES else read).add(found[1])
    assert "examples/decoder_layer.onnx" in read
    assert [name for name in sorted(read - written) if not list(ROOT.glob(name))] == []
