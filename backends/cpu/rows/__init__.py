"""Kernels that work on rows of values: softmax, normalisations, elementwise chains."""

from fettle.backends.cpu.rows.family import Rows

__all__ = ["Rows"]
