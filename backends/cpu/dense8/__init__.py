"""Products of 8-bit codes with a constant weight, by dot products of four codes along K."""

from fettle.backends.cpu.dense8.family import Dense8

__all__ = ["Dense8"]
