"""Products of 16-bit floats."""

from fettle.backends.triton.dense.family import Dense

__all__ = ["Dense"]
