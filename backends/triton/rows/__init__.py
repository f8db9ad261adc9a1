"""Softmax, normalisations and elementwise chains: kernels that memory bounds."""

from fettle.backends.triton.rows.family import Rows

__all__ = ["Rows"]
