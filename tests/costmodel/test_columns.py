"""Schedules as columns: values computed by hand."""

from __future__ import annotations

import numpy as np

from fettle.backends.api import Parameter, Schedule, Space
from fettle.backends.spaces import enumerate_space
from fettle.costmodel.columns import ScheduleColumns

SPACE = Space(
    (
        Parameter("tile", (16, 32, 48, 64, 96, 128)),
        Parameter("algorithm", ("lut", "plain", "split")),
        Parameter("offset", (-1, 0, 3)),
        Parameter("packed", (False, True)),
        Parameter("fixed", (7,)),
    )
)


def row(columns: ScheduleColumns, **values: object) -> dict[str, float]:
    points = enumerate_space(SPACE)
    schedule = Schedule(tuple({"fixed": 7, **values}.items()))  # type: ignore[arg-type]
    index = points.index(schedule)
    assert index is not None
    matrix = columns.matrix(points, [index])
    np.testing.assert_array_equal(matrix, columns.of([schedule]))
    return dict(zip(columns.names, matrix[0].tolist(), strict=True))


def test_sizes_are_logarithmic_alignment_counts_trailing_zeros_and_categories_are_apart() -> None:
    columns = ScheduleColumns(SPACE)
    found = row(columns, tile=48, algorithm="plain", offset=0, packed=True)
    assert found == {
        "log2:tile": (np.log2(48) - 4) / 3,
        "align:tile": 0.0,  # 48 = 3 * 2^4: as little aligned as 16, of 4 … 7 zero bits
        "choice:algorithm=lut": 0.0,
        "choice:algorithm=plain": 1.0,
        "choice:algorithm=split": 0.0,
        "rank:offset": 0.5,
        "rank:packed": 1.0,
    }
    assert row(columns, tile=128, algorithm="lut", offset=3, packed=False)["align:tile"] == 1.0


def test_schedules_of_another_space_are_placed_among_the_choices() -> None:
    columns = ScheduleColumns(SPACE)
    foreign = Schedule.of(tile=4096, algorithm="other", offset=1, packed=True)
    found = dict(zip(columns.names, columns.of([foreign, Schedule.of()])[0].tolist(), strict=True))
    assert found["log2:tile"] == 1.0  # held at the largest
    assert found["choice:algorithm=lut"] == found["choice:algorithm=plain"] == 0.0
    assert 0.5 < found["rank:offset"] < 1.0
    assert not columns.of([Schedule.of()]).any()
