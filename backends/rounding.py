"""Whole numbers of blocks."""

from __future__ import annotations


def ceil_div(a: int, b: int) -> int:
    """⌈a / b⌉."""
    return -(-a // b)
