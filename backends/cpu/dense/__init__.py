"""Dense matrix products in f32 and bf16: packed panels, register tiles, fused epilogues."""

from fettle.backends.cpu.dense.family import Dense

__all__ = ["Dense"]
