"""Products with quantised weights: dot products, table lookups or dequantisation, streaming packed weights once."""

from fettle.backends.cpu.gemv.family import Gemv

__all__ = ["Gemv"]
