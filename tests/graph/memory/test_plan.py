"""The planner: plans do not overlap and fit, and a capacity nothing fits is proved."""

from __future__ import annotations

import itertools
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument
from fettle.graph.memory import plan as planner
from fettle.graph.memory.buffers import Buffer, lower_bound, peak, read_buffers
from fettle.graph.memory.exact import solve
from fettle.graph.memory.pieces import take_apart
from fettle.graph.memory.plan import EXACT, SEARCH, plan
from tests.graph.memory.conflicts import conflicts

INSTANCES = Path(__file__).resolve().parents[2] / "data" / "minimalloc"
CAPACITY = 1048576


def instance(name: str) -> tuple[Buffer, ...]:
    with (INSTANCES / f"{name}.{CAPACITY}.csv").open() as lines:
        return read_buffers(lines, name)


def overlapping(buffers: tuple[Buffer, ...], offsets: dict[str, int]) -> list[int]:
    """Moments at which two living buffers share a byte, by painting intervals: unlike the planner's own check."""
    wrong = []
    for moment in sorted({b.lower for b in buffers}):
        spans = sorted((offsets[b.id], offsets[b.id] + b.size) for b in buffers if b.lower <= moment < b.upper)
        if any(one[1] > two[0] for one, two in itertools.pairwise(spans)):
            wrong.append(moment)
    return wrong


def least_peak(buffers: list[Buffer]) -> int:
    """By trying every order of first fit: some order gives an optimal plan."""
    best = sum(b.size for b in buffers)
    for order in itertools.permutations(buffers):
        placed: list[tuple[int, Buffer]] = []
        for buffer in order:
            near = [(o, n) for o, n in placed if n.lower < buffer.upper and buffer.lower < n.upper]
            fits = [0, *(o + n.size for o, n in near)]
            free = min(f for f in fits if all(f + buffer.size <= o or o + n.size <= f for o, n in near))
            placed.append((free, buffer))
        best = min(best, max(o + b.size for o, b in placed))
    return best


@pytest.mark.parametrize("name", ["D", "F"])
def test_public_instances_fit_their_capacity(name: str) -> None:
    buffers = instance(name)
    found = plan(buffers, CAPACITY)
    assert found.fits
    assert found.peak == max(found.offsets[b.id] + b.size for b in buffers) <= CAPACITY
    assert overlapping(buffers, dict(found.offsets)) == []
    assert min(found.offsets.values()) >= 0
    assert found.method == SEARCH


def cut_up(count: int, moments: int, seed: int) -> list[Buffer]:
    """A memory of ``CAPACITY`` bytes over ``moments``, cut into buffers: they fit, without a byte to spare."""
    draw = random.Random(seed)
    pieces = [(0, moments, CAPACITY)]  # from, until, bytes
    while len(pieces) < count:
        lower, upper, size = pieces.pop(draw.randrange(len(pieces)))
        if draw.random() < 0.5 and upper - lower > 1:
            cut = draw.randint(lower + 1, upper - 1)
            pieces += [(lower, cut, size), (cut, upper, size)]
        elif size > 1:
            cut = draw.randint(1, size - 1)
            pieces += [(lower, upper, cut), (lower, upper, size - cut)]
        else:
            pieces.append((lower, upper, size))
    return [Buffer(str(i), *piece) for i, piece in enumerate(draw.sample(pieces, count))]


def test_a_memory_cut_into_buffers_is_put_together_again() -> None:
    buffers = cut_up(30, 20, seed=1)
    found = plan(buffers, CAPACITY)
    assert found.fits
    assert overlapping(tuple(buffers), dict(found.offsets)) == []


def test_a_plan_that_does_not_fit_is_as_low_as_can_be() -> None:
    buffers = cut_up(40, 30, seed=3)
    assert peak(buffers, planner._first_fit(buffers)) > 1.5 * CAPACITY
    found = plan(buffers, CAPACITY - 1)
    assert found.proved
    assert found.peak == CAPACITY
    assert overlapping(tuple(buffers), dict(found.offsets)) == []


small = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=6).map(
    lambda rows: [Buffer(str(i), low, low + width, size) for i, (low, width, size) in enumerate(rows)]
)


@settings(max_examples=60, deadline=None)
@given(small)
def test_small_problems_are_solved_to_the_optimum(buffers: list[Buffer]) -> None:
    best = least_peak(buffers)
    found = plan(buffers, best, seconds=4.0)
    assert found.fits
    assert conflicts(buffers, found.offsets) == []
    if best > 1:
        above = plan(buffers, best - 1, seconds=4.0)
        assert not above.fits
        assert above.proved
        assert above.peak >= best


@settings(max_examples=40, deadline=None)
@given(small)
def test_taking_apart_loses_nothing(buffers: list[Buffer]) -> None:
    best = least_peak(buffers)
    offsets, pieces = take_apart(buffers, best)
    assert sorted([*offsets, *(b.id for p in pieces for b in p.buffers)]) == sorted(b.id for b in buffers)
    for piece in pieces:
        assert least_peak(list(piece.buffers)) <= piece.capacity


def test_the_fallback_plans_too() -> None:
    buffers = [Buffer("a", 0, 3, 4), Buffer("b", 3, 9, 4), Buffer("c", 0, 9, 4), Buffer("d", 9, 21, 4)]
    offsets = solve(buffers, 8, 5.0)
    assert offsets is not None
    assert conflicts(buffers, offsets) == []
    assert peak(buffers, offsets) <= 8
    assert solve(buffers, 7, 5.0) is None


def test_the_fallback_takes_over_when_the_search_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers = [
        Buffer("a", 0, 4, 3),
        Buffer("b", 3, 9, 2),
        Buffer("c", 2, 6, 3),
        Buffer("d", 5, 9, 3),
        Buffer("e", 0, 3, 2),
    ]
    monkeypatch.setattr(planner, "_first_fit", lambda given: dict(zip("abcde", range(0, 500, 100), strict=True)))
    monkeypatch.setattr(planner, "_search", lambda *_: (None, False))
    found = plan(buffers, 8)
    assert found.method == EXACT
    assert found.fits
    assert conflicts(buffers, found.offsets) == []


def test_conflicts_are_seen() -> None:
    buffers = [Buffer("a", 0, 2, 4), Buffer("b", 1, 3, 4), Buffer("c", 3, 4, 4)]
    assert conflicts(buffers, {"a": 0, "b": 3, "c": 3}) == [("a", "b")]


def test_the_bound_counts_what_lives_at_once() -> None:
    assert lower_bound([Buffer("a", 0, 2, 4), Buffer("b", 2, 3, 5), Buffer("c", 1, 3, 1)]) == 6


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("id,lower,upper\n", 1, "header"),
        ("", 1, "header"),
        ("id,lower,upper,size\na,0,2\n", 2, "3 fields"),
        ("id,lower,upper,size\na,0,2,x\n", 2, "size"),
        ("id,lower,upper,size\na,0,2,0\n", 2, "size is 0"),
        ("id,lower,upper,size\na,0,2,4\n\nb,2,2,4\n", 4, "empty"),
        ("id,lower,upper,size\na,-1,2,4\n", 2, "lower"),
        ("id,lower,upper,size\na,0,2,4\na,0,2,4\n", 3, "twice"),
        ('id,lower,upper,size\n"a,0,2,4\n', 2, "end of data"),
        ("id,lower,upper,size\na,0,2,9999999999999999999\n", 2, "size"),
    ],
)
def test_malformed_lines_are_named(text: str, line: int, what: str) -> None:
    with pytest.raises(InvalidArgument, match=what) as caught:
        read_buffers(text.splitlines(keepends=True), "x.csv")
    assert caught.value.details["line"] == str(line)
    assert f"line {line}" in str(caught.value)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, captured.out, captured.err


def test_the_command_prints_offsets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "b.csv"
    file.write_text("id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n")
    code, out, _ = run(monkeypatch, capsys, "plan", str(file), "--capacity", "12", "--json")
    value = json.loads(out)
    assert code == 0
    assert list(value) == ["capacity", "peak", "offsets", "seconds", "method"]
    assert value["peak"] == value["capacity"] == 12
    code, out, _ = run(monkeypatch, capsys, "plan", str(file), "--capacity", "11", "--json")
    assert code == 1
    assert json.loads(out)["peak"] == 12
    assert run(monkeypatch, capsys, "plan", str(tmp_path / "none.csv"), "--capacity", "11")[0] == 3
    assert run(monkeypatch, capsys, "plan", str(file), "--capacity", "0")[0] == 2
