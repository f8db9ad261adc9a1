"""Which blocks of keys a block of queries sees in block-sparse attention: fixed patterns, as text.

Text form, with the block's size in positions first (shapes as in MInference, 2407.02490)::

    ashape:64:1:4     the first block, and the last four up to the query's own
    slash:64:8        every eighth block column, and every eighth diagonal, the query's own among them
    block:64:3        a third of all blocks, scattered, and the query's own
"""

from __future__ import annotations

import re

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload

KINDS = {"ashape": 2, "slash": 1, "block": 1}
"""How many numbers follow the block's size."""

SCATTER = 7
"""Block (i, j) of ``block:B:n`` is seen where ``(SCATTER·i + j) mod n = 0``."""

_TEXT = re.compile(r"([a-z]+):([0-9]{1,6})((?::[0-9]{1,6})+)")


@attrs.frozen
class Pattern:
    """One pattern.

    Attributes:
        kind: a key of :data:`KINDS`.
        block: positions of one block, of queries and of keys.
        numbers: what follows in the text.
    """

    kind: str
    block: int
    numbers: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern a text names.

        Raises:
            InvalidWorkload: the text names none.
        """
        found = _TEXT.fullmatch(text)
        numbers = tuple(int(n) for n in found[3][1:].split(":")) if found else ()
        if found is None or KINDS.get(found[1]) != len(numbers) or int(found[2]) < 1 or min(numbers) < 1:
            raise InvalidWorkload(f"malformed pattern {text[:64]!r}", hint="ashape:64:1:4, slash:64:8 or block:64:3")
        return cls(found[1], int(found[2]), numbers)

    def __str__(self) -> str:
        return ":".join([self.kind, str(self.block), *map(str, self.numbers)])

    def sees(self, queries: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether positions see positions, ``[queries, keys]``. A query always sees its own block."""
        i, j = queries[:, None] // self.block, keys[None, :] // self.block
        first, *rest = self.numbers
        if self.kind == "ashape":
            seen = (j < first) | ((i - j >= 0) & (i - j < rest[0]))
        elif self.kind == "slash":
            seen = (j % first == 0) | ((i - j) % first == 0)
        else:
            seen = ((SCATTER * i + j) % first == 0) | (i == j)
        return np.asarray(seen, np.bool_)
