"""Spaces: enumeration agrees with plain Python on every point, samples are fair, neighbours are neighbours."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.backends import _groups
from fettle.backends.api import Constraint, Parameter, Schedule, Space
from fettle.backends.spaces import enumerate_space, is_valid, why_invalid
from fettle.graph.errors import InvalidArgument, ResourceExhausted

MATMUL = Space(
    parameters=(
        Parameter("algorithm", ("lut", "direct")),
        Parameter.powers_of_two("tile_m", 1, 64),
        Parameter.powers_of_two("tile_n", 1, 64),
        Parameter("threads", (1, 2)),
        Parameter("packed", (False, True)),
    ),
    constraints=(Constraint("tile_m * tile_n <= 256", "registers"), Constraint("packed or algorithm == 'direct'")),
)


def holds_in_python(expression: str, values: dict[str, object]) -> bool:
    try:
        return bool(eval(expression, {"min": min, "max": max}, values))
    except ZeroDivisionError:
        return False


def brute_force(space: Space) -> set[Schedule]:
    points = itertools.product(*(p.choices for p in space.parameters))
    return {
        Schedule.of(**values)
        for values in (dict(zip(space.names, point, strict=True)) for point in points)
        if all(holds_in_python(c.expression, dict(values)) for c in space.constraints)
    }


INTEGERS = st.lists(st.integers(-6, 12), min_size=1, max_size=4, unique=True).map(sorted)
HUGE = st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=3, unique=True).map(sorted)
FRACTIONS = st.lists(st.sampled_from([-1.5, -0.5, 0.0, 0.25, 2.0]), min_size=1, max_size=3, unique=True).map(sorted)
TRUTH = st.just([False, True])
WORDS = st.lists(st.sampled_from(["", "a", "ab", "b"]), min_size=1, max_size=3, unique=True)


@st.composite
def numbers(draw: st.DrawFn, names: list[str], words: list[str], depth: int) -> str:
    leaves = [st.integers(-3, 9).map(str), st.sampled_from(["0.5", "True", str(2**65)])]
    if names:
        leaves += [st.sampled_from(names)] * 3
    if depth == 0:
        return draw(st.one_of(leaves))
    kind = draw(st.sampled_from(["leaf", "binary", "negate", "if", "call", "logic", "truth"]))
    a, b = draw(numbers(names, words, depth - 1)), draw(numbers(names, words, depth - 1))
    match kind:
        case "binary":
            return f"({a} {draw(st.sampled_from(['+', '-', '*', '//', '%']))} {b})"
        case "negate":
            return f"(-{a})"
        case "if":
            return f"({a} if {draw(truths(names, words, depth - 1))} else {b})"
        case "call":
            return f"{draw(st.sampled_from(['min', 'max']))}({a}, {b})"
        case "logic":
            return f"({a} {draw(st.sampled_from(['and', 'or']))} {b})"
        case "truth":
            return draw(truths(names, words, depth - 1))
    return a


@st.composite
def truths(draw: st.DrawFn, names: list[str], words: list[str], depth: int) -> str:
    kind = draw(st.sampled_from(["compare", "chain", "in", "not", "logic"] + ["word"] * bool(words)))
    below = max(depth - 1, 0)
    comparison = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    a, b = draw(numbers(names, words, below)), draw(numbers(names, words, below))
    match kind:
        case "chain":
            return f"({a} {draw(comparison)} {b} {draw(comparison)} {draw(numbers(names, words, below))})"
        case "in":
            return f"({a} {draw(st.sampled_from(['in', 'not in']))} ({b}, 1, 4))"
        case "not":
            return f"(not {a})"
        case "logic":
            return f"({draw(truths(names, words, below)) if depth else a} {draw(st.sampled_from(['and', 'or']))} {b})"
        case "word":
            word, other = draw(st.sampled_from(words)), draw(st.sampled_from(["''", "'a'", *words]))
            return f"({word} {draw(comparison)} {other})"
    return f"({a} {draw(comparison)} {b})"


@st.composite
def declared_spaces(draw: st.DrawFn) -> Space:
    choices = draw(st.lists(st.one_of(INTEGERS, INTEGERS, FRACTIONS, HUGE, TRUTH, WORDS), min_size=1, max_size=5))
    parameters = [Parameter(f"p{i}", tuple(c)) for i, c in enumerate(choices)]
    words = [p.name for p in parameters if isinstance(p.choices[0], str)]
    rest = [p.name for p in parameters if p.name not in words]
    expressions = draw(st.lists(truths(rest, words, 2), max_size=3))
    return Space(parameters, [Constraint(e) for e in expressions])


def test_a_text_is_no_constraint_and_the_error_says_what_is() -> None:
    with pytest.raises(InvalidArgument) as refused:
        Space((Parameter("a", (1, 2)),), ["a > 1"])  # type: ignore[list-item]
    assert refused.value.hint == "write Constraint('a > 1')"


@settings(max_examples=300, deadline=None)
@given(declared_spaces())
def test_enumeration_is_what_plain_python_accepts(space: Space) -> None:
    expected = brute_force(space)
    if not expected:
        with pytest.raises(InvalidArgument, match="empty"):
            enumerate_space(space)
        return
    points = enumerate_space(space)
    listed = [points[i] for i in range(len(points))]
    assert len(listed) == len(expected)
    assert set(listed) == expected
    assert [points.index(schedule) for schedule in listed] == list(range(len(listed)))
    for point in itertools.product(*(p.choices for p in space.parameters)):
        schedule = Schedule.of(**dict(zip(space.names, point, strict=True)))
        assert is_valid(space, schedule) == (schedule in expected) == (schedule in points)


@settings(max_examples=100, deadline=None)
@given(declared_spaces(), st.data())
def test_neighbours_differ_in_exactly_one_parameter_and_none_is_missing(space: Space, data: st.DataObject) -> None:
    valid = brute_force(space)
    if not valid:
        return
    points = enumerate_space(space)
    index = data.draw(st.integers(0, len(points) - 1))
    here = dict(points[index].values)
    expected = {s for s in valid if sum(here[name] != value for name, value in s.values) == 1}
    found = points.neighbours(index)
    assert {points[i] for i in found} == expected
    assert len(found) == len(expected)


def test_neighbours_come_nearest_first() -> None:
    space = Space((Parameter("tile", (1, 2, 4, 8, 16)), Parameter("algorithm", ("a", "b", "c", "d"))))
    points = enumerate_space(space)
    index = points.index(Schedule.of(tile=4, algorithm="a"))
    assert index is not None
    found = [points[i] for i in points.neighbours(index)]
    assert [s["algorithm"] for s in found] == ["a", "a", "b", "c", "d", "a", "a"]
    assert [s["tile"] for s in found] == [2, 8, 4, 4, 4, 1, 16]


def test_sampling_is_uniform_over_valid_points() -> None:
    points = enumerate_space(MATMUL)
    rng = np.random.default_rng(7)
    draws, count = 2000, 5
    hits = np.zeros(len(points))
    for _ in range(draws):
        sampled = points.sample(rng, count)
        assert sampled == sorted(set(sampled))
        assert len(sampled) == count
        hits[sampled] += 1
    expected = draws * count / len(points)
    chi_square = float(((hits - expected) ** 2 / expected).sum())
    freedom = len(points) - 1
    assert abs(chi_square - freedom) < 6 * math.sqrt(2 * freedom)


def test_sampling_more_than_there_is_gives_every_point_once() -> None:
    points = enumerate_space(MATMUL)
    assert points.sample(np.random.default_rng(0), 10**9) == list(range(len(points)))
    assert points.sample(np.random.default_rng(0), 0) == []


def test_sampling_follows_its_seed() -> None:
    points = enumerate_space(MATMUL)
    assert points.sample(np.random.default_rng(3), 9) == points.sample(np.random.default_rng(3), 9)


def test_encoding_shows_values_of_numbers_and_ordinals_of_categories() -> None:
    points = enumerate_space(MATMUL)
    index = points.index(Schedule.of(algorithm="direct", tile_m=16, tile_n=2, threads=2, packed=True))
    assert index is not None
    assert points.names == ("algorithm", "tile_m", "tile_n", "threads", "packed")
    encoded = points.encode([index, index])
    assert encoded.dtype == np.float64
    assert encoded.tolist() == [[1.0, 16.0, 2.0, 2.0, 1.0]] * 2
    assert points.encode([]).shape == (0, 5)


def test_independent_parameters_are_never_multiplied_out() -> None:
    pairs = 30
    space = Space(
        [Parameter.integers(f"p{i}", 0, 99) for i in range(2 * pairs)],
        [Constraint(f"p{2 * i} < p{2 * i + 1}") for i in range(pairs)],
    )
    points = enumerate_space(space)
    assert points.size == 4950**pairs
    assert points.tried == pairs * (100 + 100 * 100)
    drawn = points.sample(np.random.default_rng(0), 50)
    assert len(set(drawn)) == 50
    for index in drawn:
        schedule = points[index]
        assert points.index(schedule) == index
        assert all(schedule[f"p{2 * i}"] < schedule[f"p{2 * i + 1}"] for i in range(pairs))
    neighbour = points.neighbours(drawn[-1])[0]
    assert sum(a != b for a, b in zip(points[neighbour].values, points[drawn[-1]].values, strict=True)) == 1
    assert points.encode(drawn[:2]).shape == (2, 60)


def test_constraints_are_applied_as_soon_as_their_names_are_bound() -> None:
    sixteen = tuple(range(1, 17))
    space = Space(
        [Parameter(name, sixteen) for name in "abcde"] + [Parameter("f", (1, 2, 3, 4, 5))],
        [
            Constraint("a * b == 16"),
            Constraint("c * d in (8, 16, 24)"),
            Constraint("a <= c"),
            Constraint("e % 2 == a % 2"),
            Constraint("f < 6"),
        ],
    )
    points = enumerate_space(space)
    naive = 16**5 * 5
    assert naive > 5_000_000
    assert points.tried < naive / 500
    assert len(points) == sum(
        1
        for a, b, c, d, e in itertools.product(sixteen, repeat=5)
        if a * b == 16 and c * d in (8, 16, 24) and a <= c and e % 2 == a % 2
    ) * 5  # fmt: skip


def test_group_of_more_rows_than_allowed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_groups, "MAX_GROUP_ROWS", 1000)
    space = Space([Parameter.integers(n, 1, 50) for n in "abc"], [Constraint("a + b + c > 3")])
    with pytest.raises(ResourceExhausted, match="a b"):
        enumerate_space(space)


def test_more_combinations_than_a_machine_integer_holds_are_still_found() -> None:
    names = [f"p{i}" for i in range(20)]
    space = Space(
        [Parameter.integers(name, 0, 99) for name in names],
        [Constraint(f"{a} == {b}") for a, b in itertools.pairwise(names)],
    )
    points = enumerate_space(space)
    assert len(points) == 100
    assert [points.index(points[i]) for i in range(100)] == list(range(100))
    assert points.index(Schedule(tuple((name, int(name != "p3")) for name in names))) is None


TABLE = Space((Parameter("tile", (1, 2, 4)), Parameter("mode", ("a", "b"))), table=((4, "a"), (1, "b"), (1, "a")))


def test_points_of_a_table_keep_the_order_of_its_rows() -> None:
    points = enumerate_space(TABLE)
    assert [(s["tile"], s["mode"]) for s in (points[i] for i in range(len(points)))] == [(4, "a"), (1, "b"), (1, "a")]
    assert points.index(Schedule.of(tile=1, mode="b")) == 1
    assert points.index(Schedule.of(tile=4, mode="b")) is None
    assert points.neighbours(2) == [1, 0]
    assert is_valid(TABLE, Schedule.of(tile=1, mode="a"))
    assert why_invalid(TABLE, Schedule.of(tile=2, mode="a")) == "not a row of the space's table"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((1, "a"), (2, "b"), (1, "a")), "twice"),
        (((1, "z"),), "mode='z'"),
        (((True, "a"),), "tile=True"),
        ((), "empty"),
    ],
)
def test_malformed_table_is_refused(rows: tuple[tuple[int | str, ...], ...], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        enumerate_space(Space(TABLE.parameters, table=rows))


@pytest.mark.parametrize(
    "expression",
    [
        "tile_m *",
        "tile_k < 3",
        "tile_m / 2 == 1",
        "tile_m ** 2 < 9",
        "abs(tile_m) < 3",
        "__import__('os')",
        "tile_m.real > 1",
        "[1][0]",
        "algorithm > 3",
        "algorithm + 'x' == 'lutx'",
        "tile_m is 1",
        "tile_m in [1, 2]",
        "min(tile_m) > 1",
        "max(tile_m, tile_n, key=tile_m)",
        "lambda: 1",
        "None == tile_m",
        "(tile_m := 3) > 1",
        "(" * 5000,
        "-" * 3000 + "tile_m",
        "+".join(["tile_m"] * 2000),
        "",
    ],
)
def test_constraint_outside_the_grammar_is_refused(expression: str) -> None:
    with pytest.raises(InvalidArgument, match="constraint"):
        enumerate_space(Space(MATMUL.parameters, (Constraint(expression),)))


def test_empty_space_names_the_constraint_that_emptied_it() -> None:
    with pytest.raises(InvalidArgument, match=r"tile_m > 64 \(too small\)"):
        enumerate_space(Space(MATMUL.parameters, (Constraint("tile_m > 64", "too small"),)))
    with pytest.raises(InvalidArgument, match="1 > 2"):
        enumerate_space(Space(MATMUL.parameters, (Constraint("1 > 2"),)))


def test_division_by_zero_makes_a_point_invalid_only_where_python_would_divide() -> None:
    parameters = (Parameter("a", (0, 1, 2, 3)), Parameter("b", (0, 1, 2)))
    divides = {(s["a"], s["b"]) for s in _listed(Space(parameters, (Constraint("a % b == 0"),)))}
    assert divides == {(a, b) for a in range(4) for b in (1, 2) if a % b == 0}
    guarded = {(s["a"], s["b"]) for s in _listed(Space(parameters, (Constraint("b == 0 or a % b == 0"),)))}
    assert guarded == divides | {(a, 0) for a in range(4)}


def test_membership_in_nothing_never_holds() -> None:
    parameters = (Parameter("a", (0, 1, 2, 3)), Parameter("b", (0, 1, 2)))
    assert len(_listed(Space(parameters, (Constraint("a not in () and b > 0"),)))) == 8
    with pytest.raises(InvalidArgument, match="empty"):
        enumerate_space(Space(parameters, (Constraint("a in ()"),)))


def _listed(space: Space) -> list[Schedule]:
    points = enumerate_space(space)
    return [points[i] for i in range(len(points))]


def test_equal_values_of_another_type_are_another_schedule() -> None:
    points = enumerate_space(MATMUL)
    values = {"algorithm": "direct", "tile_m": 1, "tile_n": 1, "threads": 1, "packed": True}
    assert points.schedule(values) in points
    for other in ({"tile_m": 1.0}, {"tile_m": True}, {"packed": 1}):
        assert points.index(Schedule.of(**(values | other))) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_m": 3}, "tile_m=3"),
        ({"tile_m": 64, "tile_n": 8}, r"tile_m \* tile_n <= 256 \(registers\)"),
        ({"extra": 1}, "extra"),
        ({"threads": None}, "threads"),
    ],
)
def test_schedule_from_values_says_what_is_wrong(change: dict[str, int | None], message: str) -> None:
    values = {"algorithm": "direct", "tile_m": 1, "tile_n": 1, "threads": 1, "packed": True} | change
    with pytest.raises(InvalidArgument, match=message):
        enumerate_space(MATMUL).schedule({name: value for name, value in values.items() if value is not None})


@pytest.mark.parametrize("index", [-1, 10**30])
def test_number_outside_the_space_is_an_index_error(index: int) -> None:
    points = enumerate_space(MATMUL)
    with pytest.raises(IndexError):
        points[index]
    with pytest.raises(IndexError):
        points.neighbours(index)


def test_space_without_parameters_has_one_point() -> None:
    points = enumerate_space(Space(()))
    assert len(points) == 1
    assert points[0] == Schedule()
    assert points.index(Schedule()) == 0
    assert points.neighbours(0) == []
