"""The arena of a model: tensors that live at the same time do not overlap, and it is no larger than they need."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.arena import LINE, lay_out

F32 = np.dtype(np.float32)


def chain(sizes: list[int]) -> tuple[list[tuple[list[str], list[str]]], dict[str, tuple[tuple[int, ...], np.dtype]]]:
    """t0 → t1 → …: each tensor is made by one step and used last by the next."""
    steps = [([f"t{i}"], [f"t{i - 1}"] if i else []) for i in range(len(sizes))]
    return steps, {f"t{i}": ((size,), F32) for i, size in enumerate(sizes)}


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_neighbours_of_a_chain_keep_their_values(sizes: list[int]) -> None:
    steps, types = chain(sizes)
    arena = lay_out(steps, types)
    for i, size in enumerate(sizes):
        arena.views[f"t{i}"][...] = i
        assert arena.views[f"t{i}"].shape == (size,)
        assert arena.views[f"t{i}"].ctypes.data % LINE == 0
        if i:
            assert (arena.views[f"t{i - 1}"] == i - 1).all()
    lines = [-(-4 * size // LINE) * LINE for size in sizes]
    live = max(sum(pair) for pair in itertools.pairwise([*lines, 0]))
    assert (arena.least, arena.together) == (live, sum(lines))
    assert arena.least <= arena.peak <= arena.together


def test_a_tensor_that_nobody_uses_last_lives_to_the_end() -> None:
    steps = [(["kept"], []), (["a"], []), (["b"], ["a"]), (["c"], ["b"])]
    types = dict.fromkeys(("kept", "a", "b", "c"), ((16,), F32))
    arena = lay_out(steps, types)
    assert arena.peak == 3 * LINE
    assert not any(np.shares_memory(arena.views["kept"], arena.views[name]) for name in "abc")


def test_tensors_of_no_or_unknown_size_have_no_place() -> None:
    arena = lay_out([(["empty", "unknown", "x"], [])], {"empty": ((0, 4), F32), "x": ((4,), F32)})
    assert set(arena.views) == {"x"}
    assert lay_out([([], [])], {}).peak == 0
