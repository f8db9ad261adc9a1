"""What others take of the processors is what the threads' files say, or nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from fettle.backends.cpu.waiting import Waiting

SECOND = 10**9


def write(root: Path, waited: dict[int, int]) -> None:
    """The files of threads that ran for a second each and waited for so many nanoseconds."""
    for task, nanoseconds in waited.items():
        (root / str(task)).mkdir(exist_ok=True)
        (root / str(task) / "schedstat").write_text(f"{SECOND} {nanoseconds} 17\n")


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    """Every stretch takes two seconds."""
    return Waiting(tmp_path, itertools.count(0.0, 2.0).__next__)


def test_the_thread_that_waited_longest_counts(tmp_path: Path, waiting: Waiting) -> None:
    write(tmp_path, {7: 5 * SECOND, 8: 0})
    waiting.start([7, 8])
    write(tmp_path, {7: 5 * SECOND + SECOND // 2, 8: SECOND})
    waiting.stop()
    assert waiting.share == pytest.approx(0.5)


def test_only_stretches_count(tmp_path: Path, waiting: Waiting) -> None:
    for before, after in ((0, SECOND // 2), (9 * SECOND, 9 * SECOND)):
        write(tmp_path, {7: before})
        waiting.start([7])
        write(tmp_path, {7: after})
        waiting.stop()
    assert waiting.share == pytest.approx(0.125)


@pytest.mark.parametrize("text", [None, "", "1000", "what is this"])
def test_a_machine_that_does_not_tell_has_no_share(tmp_path: Path, waiting: Waiting, text: str | None) -> None:
    if text is not None:
        (tmp_path / "7").mkdir()
        (tmp_path / "7" / "schedstat").write_text(text)
    waiting.start([7])
    waiting.stop()
    assert waiting.share is None
