"""Convolutions in f32, NCHW: direct, over padded copies of bands of rows; those of one tap read x where it lies."""

from fettle.backends.cpu.conv.family import Conv

__all__ = ["Conv"]
