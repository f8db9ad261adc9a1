"""Parquet files that appear whole or not at all, written a few rows at a time. Needs pyarrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fettle.graph.errors import Unavailable, Unsupported
from fettle.store.atomic import replacing

Rows = Sequence[Mapping[str, Any]]


def arrow() -> Any:
    """The module ``pyarrow``. Raises Unsupported if it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as problem:
        raise Unsupported("Parquet files need pyarrow", hint="pip install 'fettle-tuner[corpus]'") from problem
    return pyarrow


@contextmanager
def parquet_file(path: Path, schema: Any) -> Iterator[Callable[[Rows], None]]:
    """A function that appends rows, one row group a call; the file is there once the context ends without an error.

    Args:
        schema: a ``pyarrow.Schema``.

    Raises:
        Unsupported: pyarrow is not installed.
        Unavailable: the file cannot be written.
    """
    module = arrow()
    try:
        with (
            replacing(path) as file,
            module.parquet.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # a file for people, not one of the store's
            yield lambda rows: writer.write_table(module.Table.from_pylist(list(rows), schema=schema))
    except OSError as problem:
        raise Unavailable(
            f"{path} cannot be written: {problem.strerror or problem}",
            hint="check that its folder exists, is writable and has space; nothing was left half written",
        ) from problem


def _umask() -> int:
    """The process's, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
