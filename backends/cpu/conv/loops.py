"""The loops around and inside of a register tile, whatever its lanes hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm.tirx.script.builder import ir as T

from fettle.backends.cpu.conv.geometry import UNROLLED_TAPS, Geometry, unrolled_columns


@contextmanager
def tasks(g: Geometry) -> Iterator[tuple[Any, Any, Any]]:
    """Independent pieces of work, split over threads: (image, band of output rows, first panel of output channels)."""
    loop = T.parallel if g.threads > 1 and g.tasks > 1 else T.serial
    with loop(0, g.tasks) as task:
        image, rest = task // (g.bands * g.oc_tiles), task % (g.bands * g.oc_tiles)
        yield image, rest // g.oc_tiles, rest % g.oc_tiles * g.tile_oc


@contextmanager
def panels(g: Geometry, panel0: Any) -> Iterator[Any]:
    """Panels of a task that exist, counted from its first, ``panel0``."""
    with T.serial(0, g.tile_oc) as i, T.If(panel0 + i < g.panels), T.Then():
        yield i


@contextmanager
def register_tiles(g: Geometry, panel0: Any) -> Iterator[tuple[Any, Any]]:
    """(group of output elements, panel) of a task, in the order of the schedule."""
    if g.weights_inside:
        with T.serial(0, g.groups) as group, panels(g, panel0) as i:
            yield group, i
    else:
        with panels(g, panel0) as i, T.serial(0, g.groups) as group:
            yield group, i


def each_row(g: Geometry, taps: Callable[[Any, Sequence[Any]], None]) -> None:
    """Emit ``taps(row, columns)`` for all taps of the filter, as many columns at once as are unrolled."""

    def columns_of(row: Any) -> None:
        if unrolled_columns(g.kw) == g.kw:
            taps(row, range(g.kw))
        else:
            with T.serial(0, g.kw) as column:
                taps(row, [column])

    if g.taps <= UNROLLED_TAPS:
        for r in range(g.kh):
            columns_of(r)
    else:
        with T.serial(0, g.kh) as row:
            columns_of(row)


def of_group(g: Geometry, image: Any, count: int) -> Any:
    """Where the share of an image's group begins among ``count`` things of each group."""
    return image % g.group * count if g.group > 1 else 0
