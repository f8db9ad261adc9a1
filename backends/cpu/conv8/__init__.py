"""Convolutions of 8-bit codes, NCHW: copies of bands of rows in words of four codes, dot products of such words."""

from fettle.backends.cpu.conv8.family import Conv8

__all__ = ["Conv8"]
