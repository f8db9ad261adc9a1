"""The Typer application, and the mapping of errors to exit codes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from fettle.cli.asjson import error_json
from fettle.cli.homes import HOMES
from fettle.cli.lazy import LazyGroup
from fettle.cli.output import DONE, FAILED, NOT_FOUND, USAGE, print_json
from fettle.graph.errors import FettleError, InvalidArgument, NotFound


def _tell_json(error: FettleError) -> None:
    """With ``--json``, who reads stdout learns of an error, too."""
    if "--json" in sys.argv:
        print_json(error_json(error))


class _Commands(LazyGroup):
    """Bad usage is an error like any other with ``--json``. For people Typer prints it, and exits with 2."""

    homes = HOMES

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with self._usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with self._usage_errors():
            return super().invoke(ctx)

    @staticmethod
    @contextmanager
    def _usage_errors() -> Iterator[None]:
        try:
            yield
        except typer.TyperException as error:
            _tell_json(InvalidArgument(error.format_message(), hint="--help lists arguments and options"))
            raise


app = typer.Typer(
    name="fettle",
    cls=_Commands,
    help="Tune the kernels of an operator graph for a device, prove them right, and serve the winners.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from fettle import __version__

        typer.echo(f"fettle {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def exit_code(error: FettleError) -> int:
    """2 for bad usage, 3 for what does not exist, 1 for the rest."""
    if isinstance(error, InvalidArgument):
        return USAGE
    return NOT_FOUND if isinstance(error, NotFound) else FAILED


def main() -> NoReturn:
    """Run the command that the arguments say. An error goes to stderr and, with ``--json``, to stdout as well."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no terminal or locale is too plain for a result: a ? for a µ
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno is None:  # of a file, or not of the system's: no stream's
            raise
        print(f"fettle: the output cannot be written: {error.strerror}", file=sys.stderr)
        os._exit(FAILED)  # without flushing stdout, which would fail again
    except FettleError as error:
        _tell_json(error)
        print(f"fettle: {error}", file=sys.stderr)
        for name, value in error.details.items():
            print(f"  {name}: {value}", file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(DONE)
