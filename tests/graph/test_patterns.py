"""Block-sparse patterns: what their page says, block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph.errors import InvalidWorkload
from fettle.graph.patterns import Pattern
from fettle.graph.workload import Workload

POSITIONS = np.arange(32)


def blocks(text: str) -> list[str]:
    """The pattern over 32 positions in blocks of 4, a line for each block of queries."""
    seen = Pattern.parse(text).sees(POSITIONS, POSITIONS)[::4, ::4]
    return ["".join(".#"[int(x)] for x in row) for row in seen]


def test_an_a_has_its_first_columns_and_a_band() -> None:
    assert blocks("ashape:4:1:2")[:4] == ["#.......", "##......", "###.....", "#.##...."]


def test_slashes_are_columns_and_diagonals() -> None:
    assert blocks("slash:4:3")[:4] == ["#..#..#.", "##.##.##", "#.##.##.", "#..#..#."]


@given(
    st.sampled_from(["ashape:4:1:1", "ashape:5:2:3", "slash:4:3", "slash:7:2", "block:4:3", "block:3:5"]),
    st.integers(0, 31),
)
def test_a_query_sees_its_own_block(text: str, position: int) -> None:
    assert Pattern.parse(text).sees(POSITIONS, POSITIONS)[position, position]


@given(st.sampled_from(["ashape:4:1:2", "slash:4:3", "block:16:2"]))
def test_text_is_parsed_back(text: str) -> None:
    assert str(Pattern.parse(text)) == text


@pytest.mark.parametrize("text", ["", "ashape", "ashape:4:1", "slash:0:3", "slash:4:0", "circle:4:1", "block:4:3:2"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidWorkload):
        Pattern.parse(text)


def test_work_counts_only_pairs_that_are_seen() -> None:
    dense = Workload.parse("attention heads=1 q=32 kv=32 dim=16 act=f16")
    sparse = Workload.parse("attention heads=1 q=32 kv=32 dim=16 act=f16 pattern=slash:4:3")
    share = Pattern.parse("slash:4:3").sees(POSITIONS, POSITIONS).mean()
    assert sparse.flops == pytest.approx(share * dense.flops)
