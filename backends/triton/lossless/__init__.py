"""Entropy-coded bf16 weights, decoded bit by bit the same."""

from fettle.backends.triton.lossless.family import Lossless

__all__ = ["Lossless"]
