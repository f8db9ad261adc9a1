"""Kernel Tuner cache files (schema 1.x, and those before it had one)."""

from __future__ import annotations

from fettle.backends.api import Outcome
from fettle.backends.replay import units
from fettle.backends.replay.document import Node
from fettle.backends.replay.recording import Recording, Row, tabulate

_FAILURES = {
    "InvalidConfig": Outcome.INVALID,
    "CompilationFailedConfig": Outcome.COMPILE_ERROR,
    "RuntimeFailedConfig": Outcome.RUN_ERROR,
}


def read_cache(document: Node, digest: str) -> Recording:
    """The recording of a cache file. Its times are milliseconds; its objective must be ``time``.

    Raises:
        InvalidArgument: keys are missing or of the wrong type, the objective is no time, or no entry is valid.
    """
    names = [name.text() for name in document.field("tune_params_keys").items()]
    cache = document.field("cache")
    entries = [cache.field(key) for key in cache.object()]
    if not names:
        raise document.field("tune_params_keys").error("there are no parameters")
    if not entries:
        raise cache.error("there are no results")
    objective = document.optional("objective")
    if objective is not None and objective.text() != "time":
        raise objective.error(f"{objective.text()[:64]!r} is no time; a recording is searched for its shortest time")
    parameters, table = tabulate(entries, names)
    rows = tuple(_row(entry, values) for entry, values in zip(entries, table, strict=True))
    if all(row.objective is None for row in rows):
        raise cache.error("no configuration is valid")
    name = document.optional("device_name")
    scale = units.SECONDS[units.DEFAULT]
    return Recording(digest, name.text() if name else "", parameters, rows, units.DEFAULT, scale)


def _row(entry: Node, values: tuple[int | float | str | bool, ...]) -> Row:
    time = entry.field("time")
    if isinstance(time.value, str):
        if time.value not in _FAILURES:
            raise time.error(f"{time.value[:64]!r} is none of {' '.join(_FAILURES)}")
        return Row(values, _FAILURES[time.value], message=time.value)
    scale = units.SECONDS[units.DEFAULT]
    time.seconds(scale)
    samples = entry.optional("times")
    recorded = samples.all_seconds(scale) if samples else ()
    return Row(values, Outcome.OK, time.number(), recorded)
