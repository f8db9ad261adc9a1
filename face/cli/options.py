"""Options that several commands share, with one wording."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fettle.graph.errors import InvalidArgument

_REPLAY = "replay:"


def absolute_recording(device: str) -> str:
    """A device text whose file, if it names one, is absolute: a server, or a resumed job, runs in another folder."""
    path = device.removeprefix(_REPLAY)
    return device if path in (device, "") else _REPLAY + os.path.abspath(path)


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="backend[:preset][,key=value …], e.g. `cpu`, `cpu,threads=1,isa=avx2` or `replay:FILE`.",
        callback=absolute_recording,
    ),
]
JobArgument = Annotated[str, typer.Argument(help="The job's id.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Database URL or SQLite path; default: the user's data directory."),
]
ServerOption = Annotated[str | None, typer.Option("--server", help="Send the request to a server, HOST:PORT.")]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar="FETTLE_TOKEN", help="Bearer token for --server.", show_envvar=True)
]
CaOption = Annotated[
    Path | None, typer.Option("--tls-ca", help="Certificate file that --server's TLS certificate is checked against.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
ShareOption = Annotated[
    str | None,
    typer.Option(
        "--share-activations",
        metavar="FORMATS",
        help="Also tune products of a model that read activations prepared once, as `i8` codes, `lut4` tables or "
        "`i8,lut4`; says which way is faster, and `fettle run` takes it.",
    ),
]
DimOption = Annotated[
    list[str] | None, typer.Option("--dim", help="Bind a symbolic dimension of the model: NAME=SIZE. Repeatable.")
]


def parse_dims(texts: list[str] | None) -> dict[str, int]:
    """``--dim batch=1`` options as a mapping.

    Raises:
        InvalidArgument: malformed or repeated.
    """
    dims: dict[str, int] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value.isascii() and value.isdigit() and int(value) > 0) or name in dims:
            raise InvalidArgument(f"malformed --dim {text!r}", hint="write --dim NAME=SIZE, each name once")
        dims[name] = int(value)
    return dims
