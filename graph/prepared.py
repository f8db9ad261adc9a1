"""Activations as products with quantised weights read them: rounded to 8 bits in groups, prepared once for many.

Such products begin by rounding their activations x ``[rows, cols]``, in groups along K, whatever the weight is. Where
several products have the same x, one operator may do that for all of them. Its result is one flat array of
32-bit words, three parts one behind the other, with G the columns of a group::

    i8:G/f32     codes   int8   [rows, cols]           q = round(x / l), with l = max|x| / 127 over the group
                 units   f32    [rows, cols / G]       l
                 totals  int32  [rows, cols / G]       Σ q

    lut4:G/f32   tables  int8   [rows, cols / 4, 16]   entry e = round(Σ_i ±x_i / l), plus where bit i of e is set,
                                                       over four neighbours; l = max(Σ_i |x_i|) / 127 over the group
                 units   f32    [rows, cols / G]       l
                 totals  f32    [rows, cols / G]       Σ x
"""

from __future__ import annotations

import re

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload

UNIT = 32
"""Groups are multiples of this many columns: whole steps of every kernel."""

QUAD = 4
"""Activations of one table."""

ENTRIES = 1 << QUAD

SIGNS: NDArray[np.float64] = np.where((np.arange(ENTRIES)[:, None] >> np.arange(QUAD)) & 1, 1.0, -1.0)
"""``[entry, i]``: the sign of activation i in an entry of a table."""

_LARGEST = 127
_TINY = np.float32(1e-30)
"""Groups whose largest value is below this quantise coarsely instead of dividing by zero."""

_BYTES = {"i8": 1, "lut4": ENTRIES // QUAD}
"""Element -> bytes of the first part per activation."""

_TEXT = re.compile(r"(?P<element>[a-z]+[0-9]+):(?P<group>[0-9]{1,6})/f32")


@attrs.frozen
class PreparedFormat:
    """How prepared activations are stored; text ``i8:128/f32`` or ``lut4:128/f32``.

    Attributes:
        element: ``i8`` codes, or ``lut4`` tables of the sums of four.
        group: columns that share a unit, a multiple of 32.
    """

    element: str
    group: int

    def __attrs_post_init__(self) -> None:
        if self.element not in _BYTES:
            raise InvalidWorkload(f"prepared activations are {' or '.join(_BYTES)}, not {self.element!r}")
        if self.group <= 0 or self.group % UNIT:
            raise InvalidWorkload(f"groups of prepared activations are multiples of {UNIT}, not {self.group}")

    @classmethod
    def parse(cls, text: str) -> PreparedFormat:
        """The format a text names.

        Raises:
            InvalidWorkload: the text names none.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidWorkload(
                f"malformed format of prepared activations {text!r}", hint="examples: i8:128/f32, lut4:64/f32"
            )
        return cls(match["element"], int(match["group"]))

    def __str__(self) -> str:
        return f"{self.element}:{self.group}/f32"

    @property
    def kind(self) -> str:
        """As formats of elements have one; equal to none of theirs."""
        return str(self)

    def groups(self, cols: int) -> int:
        """Groups of a row.

        Raises:
            InvalidWorkload: they do not divide it.
        """
        if cols % self.group:
            raise InvalidWorkload(f"groups of {self.group} do not divide rows of {cols} activations")
        return cols // self.group

    def words(self, rows: int, cols: int) -> int:
        """32-bit words of all parts."""
        return self.value_words(rows, cols) + 2 * rows * self.groups(cols)

    def value_words(self, rows: int, cols: int) -> int:
        """32-bit words of the first part: codes or tables."""
        return rows * cols * _BYTES[self.element] // 4

    def prepare(self, x: NDArray[np.generic]) -> NDArray[np.int32]:
        """Prepare activations ``[rows, cols]``, in float32."""
        rows, cols = x.shape
        a = x.astype(np.float32).reshape(rows, self.groups(cols), self.group)
        sums = self._sums(a)
        units = np.maximum(np.abs(sums).max(axis=2), _TINY) * np.float32(1 / _LARGEST)
        values = np.rint(sums / units[..., None]).astype(np.int8)
        if self.element == "i8":
            totals = values.sum(axis=2, dtype=np.int32)
        else:
            totals = a.sum(axis=2, dtype=np.float32).view(np.int32)
        return np.concatenate([part.reshape(-1).view(np.int32) for part in (values, units, totals)])

    def values(self, words: NDArray[np.int32], rows: int, cols: int) -> NDArray[np.float64]:
        """What codes or table entries stand for: ``[rows, cols]``, or ``[rows, cols / 4 · 16]``."""
        split = self.value_words(rows, cols)
        units = words[split : split + rows * self.groups(cols)].view(np.float32).astype(np.float64)
        stored = words[:split].view(np.int8).reshape(rows * self.groups(cols), -1)
        return np.asarray(stored * units[:, None]).reshape(rows, -1)

    def totals(self, words: NDArray[np.int32], rows: int, cols: int) -> NDArray[np.float64]:
        """The totals ``[rows, groups]``, in units of the activations."""
        groups = self.groups(cols)
        units, stored = words[self.value_words(rows, cols) :].reshape(2, rows, groups)
        if self.element == "lut4":
            return stored.view(np.float32).astype(np.float64)
        return np.asarray(stored * units.view(np.float32).astype(np.float64))

    def activations(self, words: NDArray[np.int32], rows: int, cols: int) -> NDArray[np.float64]:
        """The activations ``[rows, cols]`` they stand for; of tables, those that fit their entries best."""
        values = self.values(words, rows, cols)
        if self.element == "i8":
            return values
        return np.asarray(values.reshape(-1, ENTRIES) @ SIGNS / ENTRIES).reshape(rows, cols)

    def exact(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Of float64 activations: values as :meth:`values` gives them but not rounded, units ``[rows, groups]`` and
        sums of activations ``[rows, groups]``."""
        rows, cols = x.shape
        a = x.reshape(rows, self.groups(cols), self.group)
        sums: NDArray[np.float64] = self._sums(a).astype(np.float64)
        units: NDArray[np.float64] = np.maximum(np.abs(sums).max(axis=2), float(_TINY)) / _LARGEST
        return sums.reshape(rows, -1), units, np.asarray(a.sum(axis=2))

    def _sums(self, a: NDArray[np.floating]) -> NDArray[np.floating]:
        """What is rounded, of activations ``[rows, groups, group]``: themselves, or all ± sums of each four."""
        if self.element == "i8":
            return a
        quads = a.reshape(*a.shape[:2], -1, QUAD)
        return np.asarray(quads @ SIGNS.T.astype(a.dtype)).reshape(*a.shape[:2], -1)
