"""Layout algebra against brute force: every operation agrees with the mapping, coordinate by coordinate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fettle.graph.errors import InvalidArgument
from fettle.graph.layouts import Layout

EXTENTS = st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4)


@st.composite
def any_layouts(draw: st.DrawFn) -> Layout:
    shape = draw(EXTENTS)
    return Layout(tuple(shape), tuple(draw(st.integers(0, 24)) for _ in shape))


@st.composite
def dense_layouts(draw: st.DrawFn) -> Layout:
    shape = draw(EXTENTS)
    return Layout.compact(shape, draw(st.permutations(range(len(shape)))))


def by_hand(layout: Layout) -> list[int]:
    """Offsets by the formula of the module's page."""
    result = []
    for i in range(math.prod(layout.shape)):
        offset, before = 0, 1
        for extent, stride in zip(layout.shape, layout.stride, strict=True):
            offset += (i // before) % extent * stride
            before *= extent
        result.append(offset)
    return result


@given(any_layouts())
def test_offsets_follow_the_formula(layout: Layout) -> None:
    expected = by_hand(layout)
    assert layout.offsets().tolist() == expected
    assert [layout(i) for i in range(layout.size)] == expected
    assert layout.extent == max(expected) + 1


@given(any_layouts())
def test_coalescing_keeps_the_mapping(layout: Layout) -> None:
    short = layout.coalesce()
    assert short.offsets().tolist() == layout.offsets().tolist()
    assert len(short.shape) <= len(layout.shape)


@given(any_layouts() | dense_layouts())
def test_bijection_is_proved_exactly_when_it_holds(layout: Layout) -> None:
    assert layout.is_bijection() == (sorted(by_hand(layout)) == list(range(layout.size)))


@given(dense_layouts())
def test_inverse_undoes_the_layout_both_ways(layout: Layout) -> None:
    inverse = layout.inverse()
    assert [inverse(layout(i)) for i in range(layout.size)] == list(range(layout.size))
    assert [layout(inverse(i)) for i in range(layout.size)] == list(range(layout.size))


@given(any_layouts())
def test_only_bijections_have_an_inverse(layout: Layout) -> None:
    assume(not layout.is_bijection())
    with pytest.raises(InvalidArgument, match="not a bijection"):
        layout.inverse()


@given(any_layouts() | dense_layouts(), any_layouts() | dense_layouts())
def test_composition_maps_through_both_or_is_refused(outer: Layout, inner: Layout) -> None:
    try:
        composed = outer.compose(inner)
    except InvalidArgument:
        return
    assert composed.offsets().tolist() == [outer(inner(i)) for i in range(inner.size)]


def test_composition_whose_modes_carry_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="carry"):
        Layout((2, 2), (1, 10)).compose(Layout((2, 2), (1, 1)))


@given(dense_layouts(), st.data())
def test_composition_with_the_identity_changes_nothing(layout: Layout, data: st.DataObject) -> None:
    identity = Layout((layout.size,), (1,))
    assert layout.compose(identity).offsets().tolist() == layout.offsets().tolist()
    assert identity.compose(layout).offsets().tolist() == layout.offsets().tolist()


@given(dense_layouts(), st.data())
def test_division_at_a_mode_boundary_splits_every_coordinate(layout: Layout, data: st.DataObject) -> None:
    tile = math.prod(layout.shape[: data.draw(st.integers(0, len(layout.shape)))])
    within, among = layout.divide(tile)
    assert (within.size, among.size) == (tile, layout.size // tile)
    expected = [layout(i) for i in range(layout.size)]
    assert [within(i % tile) + among(i // tile) for i in range(layout.size)] == expected


@pytest.mark.parametrize("tile", [0, -1, 5, 7])
def test_tiles_that_do_not_divide_are_refused(tile: int) -> None:
    with pytest.raises(InvalidArgument):
        Layout.compact((4, 6)).divide(tile)


@given(dense_layouts())
def test_scatter_puts_each_value_at_its_offset(layout: Layout) -> None:
    values = np.arange(layout.size, dtype=np.int32) * 7
    out = layout.scatter(values)
    assert all(out[layout(i)] == values[i] for i in range(layout.size))


def test_scatter_refuses_layouts_with_holes_and_wrong_sizes() -> None:
    with pytest.raises(InvalidArgument, match="not a bijection"):
        Layout((4,), (2,)).scatter(np.arange(4))
    with pytest.raises(InvalidArgument, match="4 coordinates"):
        Layout((4,), (1,)).scatter(np.arange(5))


@pytest.mark.parametrize(("shape", "stride"), [((0,), (1,)), ((2,), (-1,)), ((2, 2), (1,))])
def test_impossible_layouts_are_refused(shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument):
        Layout(shape, stride)


@given(dense_layouts(), dense_layouts())
def test_a_tile_repeated_by_a_bijection_is_one(inner: Layout, outer: Layout) -> None:
    assume(inner.size * outer.size <= 4096)
    tiled = inner.tile(outer)
    assert tiled.is_bijection()
    expected = [inner(i) + inner.extent * outer(t) for t in range(outer.size) for i in range(inner.size)]
    assert tiled.offsets().tolist() == expected


@given(any_layouts(), any_layouts())
def test_tiling_then_dividing_gives_the_tile_back(inner: Layout, outer: Layout) -> None:
    assume(inner.size * outer.size <= 4096)
    tiled = inner.tile(outer)
    assert tiled.offsets()[: inner.size].tolist() == inner.offsets().tolist()
    assert tiled.offsets()[:: inner.size].tolist() == (inner.offsets()[0] + inner.extent * outer.offsets()).tolist()


def test_pictures_show_where_each_coordinate_lies() -> None:
    assert Layout((2, 3), (3, 1)).picture(3) == "0 2 4\n1 3 5"
    assert Layout((2,), (2,)).picture(4) == "0 . 1 ."
    assert Layout((2, 2), (1, 0)).picture(2) == "0+2 1+3"
    with pytest.raises(InvalidArgument, match="pictured"):
        Layout((2,), (1 << 20,)).picture(8)
