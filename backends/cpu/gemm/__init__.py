"""Products of many rows with quantised weights, from the packed weights of :mod:`fettle.backends.cpu.gemv`."""

from fettle.backends.cpu.gemm.family import Gemm

__all__ = ["Gemm"]
