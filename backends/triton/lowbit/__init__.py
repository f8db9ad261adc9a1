"""Products with weights of 1 … 8 bits."""

from fettle.backends.triton.lowbit.family import LowBit

__all__ = ["LowBit"]
