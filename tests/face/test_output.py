"""Tables of the command line in terminals of any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from fettle.cli import output, place, plan

WORKLOAD = "elementwise shape=60x7 act=f32 expr=round(x0/0.05000000074505806)+120.0+silu(x1) out=u8"
FIGURE = "a figure of 28 columns: 12 µs"
LEAST = 20 + len(FIGURE) + len("than x") + 3 * 3 + 1
"""A folded text, the figures, spaces and lines about each."""


def printed(table: Table, folded: str, width: int) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "stdout", Console(file=(file := io.StringIO()), width=width))
        output.print_table(table, folded=(folded,))
    return file.getvalue()


@given(width=st.integers(40, 140))
def test_nothing_is_cut_and_a_table_is_drawn_where_it_fits(width: int) -> None:
    table = Table("workload", "time", "than x", title="results")
    table.add_row(WORKLOAD, FIGURE, "2.0")
    text = printed(table, "workload", width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "…" not in text
    assert ("┃" in text) == (width >= LEAST)
    letters = "".join(text.split())
    if width < LEAST:
        assert WORKLOAD.replace(" ", "") in letters
        assert f"time {FIGURE}; than x 2.0".replace(" ", "") in letters
    else:
        assert FIGURE in text


def test_no_rows_are_said_in_words_where_there_are_words_for_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "stdout", Console(file=(file := io.StringIO()), width=40))
        output.print_table(Table("job"), folded=(), empty="no such jobs")
        output.print_table(Table("job"), folded=())
    words, table = file.getvalue().split("\n", 1)
    assert words == "no such jobs"
    assert "job" in table


def test_a_short_text_that_may_be_folded_takes_no_more_columns_than_it_has() -> None:
    table = Table("node", "time")
    table.add_row("Add", "1 µs")
    assert "│ Add  │ 1 µs │" in printed(table, "node", 40)


def test_lines_of_a_narrow_terminal_leave_out_empty_cells() -> None:
    table = Table("shape", "time", "of roof", "error")
    table.add_row("A", "12 µs", "", "0.001")
    assert printed(table, "shape", 20).split() == ["A", "time", "12", "µs;", "error", "0.001"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.6e-6, "1 ms"),
        (999.4e-6, "999 µs"),
        (1e-3, "1 ms"),
        (0.9999, "1 s"),
        (1.234e-8, "12.3 ns"),
        (3600.0, "3600 s"),
    ],
)
def test_times_have_three_digits_and_the_unit_of_what_is_printed(value: float, text: str) -> None:
    assert output.seconds(value) == text


def test_placements_and_plans_are_whole_tables_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell goes over two lines, so that each operator and buffer has one."""
    console = Console(file=(file := io.StringIO()), width=80)
    for module in (output, place, plan):
        monkeypatch.setattr(module, "stdout", console)
    place.place("decoder:gpt2-xl,batch=16", "cpu,gpu", json=False)
    (tmp_path / "buffers.csv").write_text("id,lower,upper,size\nfirst,0,2,64\nsecond,1,3,32\n")
    with pytest.raises(typer.Exit):
        plan.plan(tmp_path / "buffers.csv", 128, 5.0, json=False)
    lines = file.getvalue().splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == ["qkv", "attention", "projection", "up", "down", "head", "first", "second"]
    assert all(all(row) for row in rows)
    assert lines[lines.index("1: cpu") + 2].startswith("rule: ")


@pytest.mark.parametrize(
    ("bound", "best", "text"),
    [
        (1e-6, 2e-6, "50 % read:L1"),
        (1.03e-6, 1e-6, "103 % read:L1"),  # roofs are measured, too
        (0.145, 1e-6, "too high: read:L1"),
        (None, 1e-6, "–"),
        (1e-6, None, "–"),
    ],
)
def test_bounds_that_kernels_clearly_beat_are_no_shares(bound: float | None, best: float | None, text: str) -> None:
    assert output.of_bound(bound, best, "read:L1") == text
    assert output.of_bound(bound, best) == text.removesuffix(" read:L1").rstrip(":")
