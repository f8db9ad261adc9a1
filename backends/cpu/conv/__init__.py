"""Convolutions in f32, NCHW: direct, over a padded copy of a band of rows whose rows follow one another."""

from fettle.backends.cpu.conv.family import Conv

__all__ = ["Conv"]
