"""How many rows and columns tiles have. Plain arithmetic."""

from __future__ import annotations

TILES = 8
"""Tile registers of a thread."""

ROWS = 16
"""Rows of a tile at most."""

ROW_BYTES = 64
"""Bytes of a row at most."""

_DOWN = 3
"""Tiles of x in a register tile at most."""


def tiles_down(rows: int) -> int:
    """Tiles that ``rows`` rows of x need."""
    return -(-rows // ROWS)


def heights(rows: int) -> tuple[int, ...]:
    """Rows of register tiles of one, two and three tiles, whose common height cuts ``rows`` into equal ones."""
    count = tiles_down(rows)
    height = -(-rows // count)
    return tuple(height * down for down in range(1, min(_DOWN, count) + 1))


def fits(rows: str, vectors: str) -> str:
    """The condition on two parameters' expressions that sums, x and at least one tile of W have registers."""
    down = f"(({rows} + {ROWS - 1}) // {ROWS})"
    return f"{down} * ({vectors}) + {down} < {TILES}"


def right_tiles(rows: int, vectors: int) -> int:
    """Registers for tiles of W: one for each vector, or as many as sums and x leave, in turn."""
    down = tiles_down(rows)
    return min(vectors, TILES - down * vectors - down)
