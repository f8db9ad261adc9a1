"""What ``fettle tune`` ends with, for people."""

from __future__ import annotations

import pytest

from fettle.cli.asjson import result_json
from fettle.cli.results import disturbed_line
from fettle.graph.workload import Workload
from fettle.store.jobs import WorkloadResult

A, B, C = (Workload.parse(f"softmax rows={rows} cols=8 act=f32") for rows in (1, 2, 3))


def row(workload: Workload, waited: float | None) -> WorkloadResult:
    return WorkloadResult(workload, 1, best_s=1e-6, waited=waited)


@pytest.mark.parametrize("waited", [None, 0.0, 0.049])
def test_a_quiet_machine_is_not_spoken_of(waited: float | None) -> None:
    assert disturbed_line([row(A, waited), row(B, None)]) == ""


def test_kernels_that_waited_are_named_with_the_longest_wait_and_what_to_do() -> None:
    line = disturbed_line([row(A, 0.052), row(B, 0.01), row(C, 0.478)])
    assert "2 of 3 kernels waited up to 48 % of the time" in line
    assert line.splitlines()[1:] == [f"  {A}", f"  {C}"]
    assert str(B) not in line
    assert "--force" in line


def test_all_kernels_need_no_names() -> None:
    assert "the kernels waited 50 %" in disturbed_line([row(A, 0.5)])


def test_programs_read_the_share() -> None:
    assert (result_json(row(A, 0.25))["waited"], result_json(row(A, None))["waited"]) == (0.25, None)
