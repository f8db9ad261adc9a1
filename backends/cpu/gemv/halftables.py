"""Tables for ``mirror`` and ``triplets``: 128 bytes for the activations of one step, or 16 for three of them.

A step of ``mirror`` is eight activations whose signs are the bits of an octet, or five whose factors are ternary
digits; a triplet is three digits. Their sums come in pairs ±s, so a table holds one of each. In units of l, entries
lie on the grid ±0.5, ±1.5, … ±127.5, which is symmetric: a byte e stands for ``e - 127.5``, and the mirror image of e
is its complement 255 - e. Sums are built in 16 bits, 1/256 of a unit each, biased by 2^15; their upper bytes are the
entries, which rounds to the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fettle.backends.cpu.gemv.entries import LANE_FORMS, LARGEST_TRIPLET, NONE, OCTETS, QUINTETS, Entries, Form, digits
from fettle.backends.cpu.gemv.plan import Plan
from fettle.backends.cpu.gemv.words import Buffer, Expr, Registers, T, constant, fold, load, loop, splat, store
from fettle.backends.rounding import ceil_div

_LANES = 16
_WORDS = 32
"""Sums in a vector."""

_FOUR = 4
"""Lanes of a register, whose forms are those of as many tables."""

_LARGEST = 127.5 * 256
"""What the largest sum becomes: exactly the largest entry, and below 2^15 even when eight activations round up."""

_TINY = 1e-30

SUM_UNIT = 1 << 16
"""What the sums of a group count in: they are the upper halves of 32-bit lanes (see ``mirror``)."""


def width(plan: Plan) -> int:
    """Activations of a group in whole vectors."""
    return ceil_div(plan.padded_group, _LANES) * _LANES


def rounded_words(plan: Plan) -> int:
    """16-bit words for the rounded activations of all groups, with a vector behind for windows to run into."""
    return plan.m * plan.groups * width(plan) + _WORDS


def round_group(plan: Plan, a: Buffer, rounded: Buffer, factor: Buffer, pair: Expr) -> Expr:
    """Emit the activations of one (row, group) pair in 16 bits, and its factor; returns their sum before.

    Tables are made when all groups are rounded: what a group waits for, its maximum and a division, is then hidden by
    the next groups, and what was stored in other pieces than are loaded has reached the cache.
    """
    largest, sums = _bound_and_sum(plan, a)
    bounded = T.Bind(T.max(fold(largest, _LANES, T.max), T.float32(_TINY)))
    total = fold(sums, _LANES, lambda u, v: u + v)
    inverse = T.Bind(T.float32(_LARGEST) / bounded)
    with loop(width(plan) // _LANES) as i:
        scaled = T.Cast(f"int32x{_LANES}", T.nearbyint(load(a, i * _LANES, _LANES) * splat(inverse, _LANES)))
        store(rounded, pair * width(plan) + i * _LANES, T.Cast(f"int16x{_LANES}", scaled), _LANES)
    unit = 256.0 / _LARGEST / SUM_UNIT
    # no entry is zero, so a group of zeros has no size instead
    size = T.Select(bounded > T.float32(_TINY), bounded, T.float32(0))
    store(factor, pair, size * T.float32(unit if plan.sums_digits else unit / 2), 1)
    return total


def _bound_and_sum(plan: Plan, a: Buffer) -> tuple[Expr, Expr]:
    """Emit, in lanes, the largest sum of the magnitudes of ``table_k`` neighbours, and the sum of the activations.

    All neighbours bound those of a table among them. Sums of two, of four and of ``table_k`` are made of what the
    vector behind has of the same, so vectors are walked backwards.
    """
    spans = {8: (1, 2, 4), 5: (1, 2), 3: (1,)}[plan.table_k]  # of distances that double what is summed
    count = width(plan) // _LANES
    largest, sums = Registers(1, "float32", _LANES), Registers(1, "float32", _LANES)
    behind = Registers(len(spans), "float32", _LANES)
    with loop(count) as i:
        value = load(a, (count - 1 - i) * _LANES, _LANES)
        sums[0] = sums[0] + value
        single = size = T.Bind(T.abs(value))
        after = [T.Bind(behind[number]) for number in range(len(spans))]
        for number, distance in enumerate(spans):
            behind[number] = size
            size = T.Bind(size + _further(size, after[number], distance))
        if (rest := 2 * spans[-1]) < plan.table_k:
            size = T.Bind(size + _further(single, after[0], rest))
        largest[0] = T.max(largest[0], size)
    return largest[0], sums[0]


def _further(vector: Expr, behind: Expr, distance: int) -> Expr:
    """The lanes ``distance`` further on."""
    return T.Shuffle([vector, behind], list(range(distance, distance + _LANES)))


def make_tables(plan: Plan, rounded: Buffer, tables: Buffer, pair: Expr) -> None:
    """Emit the tables of one (row, group) pair."""
    if plan.is_triplets:
        _pairs_of_triplets(plan, rounded, pair * width(plan), tables, pair * plan.table_places)
    else:
        _steps(plan, rounded, pair * width(plan), tables, pair * plan.tables)


def _steps(plan: Plan, rounded: Buffer, source: Expr, tables: Buffer, first: Expr) -> None:
    """Emit the tables of 128 entries, one a step, from number ``first`` on."""
    entries = OCTETS if plan.table_k == 8 else QUINTETS
    lanes = len(entries.forms) // LANE_FORMS
    fours = ceil_div(plan.tables, _FOUR)
    forms = T.alloc_buffer((fours * lanes * _WORDS,), "int16", align=64)
    with loop(fours) as four:
        window = load(rounded, source + four * _FOUR * plan.table_k, _WORDS)
        for lane in range(lanes):
            mine = entries.forms[lane * LANE_FORMS : (lane + 1) * LANE_FORMS]
            biased = [lane * LANE_FORMS + i in entries.middle for i in range(LANE_FORMS)]
            store(forms, (four * lanes + lane) * _WORDS, _sums(window, mine, biased), _WORDS)
    for start, count, repeat in ((0, _FOUR, plan.tables // _FOUR), (fours - 1, plan.tables % _FOUR, 1)):
        if count and repeat:
            with loop(repeat) as turn:
                for inside in range(count):
                    four = start + turn
                    place = (first + four * _FOUR + inside) * plan.entries
                    _store_entries(entries, forms, four * lanes * _WORDS + inside * LANE_FORMS, tables, place)


def _sums(window: Expr, forms: Sequence[Form], biased: Sequence[bool]) -> Expr:
    """Forms of the activations of four tables, in a lane of a register for each table."""
    terms = [[(i, factor) for i, factor in enumerate(form) if factor] for form in forms]
    value = _lanes(-(2**15) if b else 0 for _ in range(_FOUR) for b in biased)
    for number in range(max(len(of_form) for of_form in terms)):
        chosen = [of_form[number] if number < len(of_form) else (0, 0) for of_form in terms]
        places = [table * len(forms[0]) + place for table in range(_FOUR) for place, _ in chosen]
        factors = _lanes(factor for _ in range(_FOUR) for _, factor in chosen)
        value = T.Bind(value + T.Shuffle([window], places) * factors)
    return value


def _store_entries(entries: Entries, forms: Buffer, place: Expr, tables: Buffer, target: Expr) -> None:
    """One table from its forms, which begin at ``place``: upper bytes of two sums alternate."""
    copies = []
    for lane in range(len(entries.forms) // LANE_FORMS):
        eight = load(forms, place + lane * _WORDS, LANE_FORMS)
        copies.append(T.Bind(T.Shuffle([eight] * _FOUR, list(range(_WORDS)))))

    def formed(numbers: Sequence[int]) -> Expr:
        """A form for each l, all in one lane of forms."""
        (lane,) = {number // LANE_FORMS for number in numbers if number != NONE}
        inside = [at // LANE_FORMS * LANE_FORMS + number % LANE_FORMS for at, number in enumerate(numbers)]
        value = T.Shuffle([copies[lane]], inside)
        if NONE not in numbers:
            return value
        return T.bitwise_and(value, _lanes(0 if number == NONE else -1 for number in numbers))

    low = T.Bind(formed(entries.lower) + formed(entries.middle))
    sums = [T.Bind(low + formed(higher)) for higher in entries.higher]
    for half in range(2):
        even, odd = (T.Bind(T.reinterpret(f"uint16x{_WORDS}", value)) for value in sums[2 * half : 2 * half + 2])
        even = T.shift_right(even, constant(8, "uint16", _WORDS))
        odd = T.bitwise_and(odd, constant(0xFF00, "uint16", _WORDS))
        store(tables, target + half * 64, T.reinterpret("uint8x64", T.bitwise_or(even, odd)), 64)


def _pairs_of_triplets(plan: Plan, rounded: Buffer, source: Expr, tables: Buffer, first: Expr) -> None:
    """Emit the tables of 16 entries, two at a time. Entry e is ``Σ t_i·a_i`` with ``Σ t_i·3^i = e``; two are unused."""
    with loop(plan.table_places // 2) as two:
        window = load(rounded, source + two * 6, 8)
        sums = constant(-(2**15), "int16", _WORDS)
        for i in range(3):
            values = T.Shuffle([window] * 4, [i + 3 * (lane // 16) for lane in range(_WORDS)])
            sums = T.Bind(sums + values * _lanes(_triplet_digit(lane % 16, i) for lane in range(_WORDS)))
        upper = T.shift_right(T.reinterpret(f"uint16x{_WORDS}", sums), constant(8, "uint16", _WORDS))
        store(tables, (first + two * 2) * plan.entries, T.Cast(f"uint8x{_WORDS}", upper), _WORDS)


def _triplet_digit(value: int, place: int) -> int:
    return digits(value, 3)[place] if value <= LARGEST_TRIPLET else 0


def _lanes(values: Iterable[int]) -> Expr:
    """A constant vector of 16-bit lanes."""
    return T.Shuffle([T.int16(value) for value in values], list(range(_WORDS)))
