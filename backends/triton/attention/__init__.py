"""Attention: prefill, decode over split keys, quantised caches, block-sparse patterns."""

from fettle.backends.triton.attention.family import Attention

__all__ = ["Attention"]
