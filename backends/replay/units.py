"""Units of time as recordings write them, misspelt or not."""

from __future__ import annotations

from fettle.backends.replay.document import Node

DEFAULT = "ms"
"""What Kernel Tuner measures in, and leaves unsaid."""

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

_NAMES = {
    **{unit: unit for unit in SECONDS},
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millisecond", "milliseconds", "milisecond", "miliseconds"), "ms"),
    **dict.fromkeys(("µs", "μs", "usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanosecond", "nanoseconds"), "ns"),
}


def time_unit(node: Node | None, default: str = DEFAULT) -> str:
    """The unit a text names; ``default`` if there is none or it is empty.

    Raises:
        InvalidArgument: it names no unit of time.
    """
    if node is None or not node.text().strip():
        return default
    unit = _NAMES.get(node.text().strip().lower())
    if unit is None:
        raise node.error(f"{node.text()[:64]!r} is no unit of time; a recording is searched for its shortest time")
    return unit
