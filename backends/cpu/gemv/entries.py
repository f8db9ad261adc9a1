"""How the 128 entries of a half table are put together from few sums of activations. Plain arithmetic.

Entry ``64·h + 2·l + p`` is a sum of three *forms*, each a sum of some of the step's activations with signs:
``lower[l] + middle[l] + higher[2·h + p][l]``, h and p bits, l = 0 … 31. Eight forms of 16 bits share a lane of a
register, so forms are made for several tables at once, and entries by shuffles inside lanes.

Octets: bit i of the entry's number is the sign of activation i < 7, set for plus; the last one has no sign. Quintets:
digits t (each -1, 0, +1) have the value ``Σ t_i·3^i``; all values 0 … 121 have an entry, the others are their mirror
images.
"""

from __future__ import annotations

import itertools

import attrs
import numpy as np

LANES = 32
"""Values of l."""

LANE_FORMS = 8

NONE = -1

LARGEST_TRIPLET = 13
"""Value of three digits +1."""

Form = tuple[int, ...]
"""Factors -1, 0 or 1 of a step's activations."""


@attrs.frozen
class Entries:
    """The forms of a kind of half table, and which of them an entry sums.

    Attributes:
        forms: in whole lanes.
        lower, middle: numbers of forms by l; :data:`NONE` adds nothing.
        higher: numbers of forms by ``2·h + p`` and l.
    """

    forms: tuple[Form, ...]
    lower: tuple[int, ...]
    middle: tuple[int, ...]
    higher: tuple[tuple[int, ...], ...]

    def entry(self, number: int) -> Form:
        """Factors of the activations in an entry."""
        half, rest = divmod(number, 2 * LANES)
        lane, block = rest // 2, 2 * half + rest % 2
        summed = (self.lower[lane], self.middle[lane], self.higher[block][lane])
        return tuple(sum(factors) for factors in zip(*(self.forms[i] for i in summed if i != NONE), strict=True))


def digits(value: int, count: int) -> Form:
    """Balanced ternary digits, lowest first."""
    found = []
    for _ in range(count):
        digit = (value + 1) % 3 - 1
        found.append(digit)
        value = (value - digit) // 3
    return tuple(found)


def _octets() -> Entries:
    signs = (-1, 1)
    threes = [(0, b, c, d, 0, 0, 0, 0) for d, c, b in itertools.product(signs, repeat=3)]
    twos = [(0, 0, 0, 0, e, f, 0, 1) for f, e in itertools.product(signs, repeat=2)]
    outer = [(a, 0, 0, 0, 0, 0, g, 0) for g, a in itertools.product(signs, repeat=2)]
    return Entries(
        forms=(*threes, *twos, *outer),
        lower=tuple(lane % 8 for lane in range(LANES)),
        middle=tuple(8 + lane // 8 for lane in range(LANES)),
        higher=tuple((12 + block,) * LANES for block in range(4)),
    )


def _quintets() -> Entries:
    """27 lanes hold all values of three digits, with the last two of +1 and 0, -1 and +1, 0 and +1, +1 and +1 in the
    four blocks; the other five lanes the 14 values with neither, where a block adds one of the forms behind."""
    twos = [(s, t, 0, 0, 0) for t, s in itertools.product((-1, 0, 1), repeat=2) if s or t]
    third = [(0, 0, t, 0, 0) for t in (-1, 0, 1)]
    last = [(0, 0, 0, 1, 0), (0, 0, 0, -1, 1), (0, 0, 0, 0, 1), (0, 0, 0, 1, 1)]
    small = [(0, 1, 1, 0, 0), (0, 0, 1, 0, 0), (0, -1, 1, 0, 0), (0, 1, 0, 0, 0)]
    unused = [(0, 0, 0, 0, 0)] * (2 * LANE_FORMS - len(twos) - len(third))
    forms = (*twos, *third, *unused, *last, *small)
    lanes = [digits(u - LARGEST_TRIPLET, 3) for u in range(2 * LARGEST_TRIPLET + 1)]
    lanes += [(-1, 0, 0), (0, 0, 0), (1, 0, 0), (1, -1, 0), (0, -1, 0)]
    first = 2 * LANE_FORMS
    return Entries(
        forms=forms,
        lower=tuple(forms.index((s, t, 0, 0, 0)) if s or t else NONE for s, t, _ in lanes),
        middle=tuple(forms.index((0, 0, t, 0, 0)) for _, _, t in lanes),
        higher=tuple(
            tuple(first + block + 4 * (lane > 2 * LARGEST_TRIPLET) for lane in range(LANES)) for block in range(4)
        ),
    )


OCTETS = _octets()
QUINTETS = _quintets()


QUINTET_NUMBERS = np.array(
    [[QUINTETS.entry(e) for e in range(4 * LANES)].index(digits(v, 5)) for v in range(122)], np.uint8
)
"""Entry of each value 0 … 121."""
