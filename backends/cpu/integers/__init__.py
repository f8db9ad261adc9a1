"""Sums of products of 8-bit codes, shared by ``conv8`` and ``dense8``: dot products of words, what becomes of sums."""
