"""Attention kernels: decode splits the keys over tasks (flash-decoding), prefill splits the queries into tiles."""

from fettle.backends.cpu.attention.family import Attention

__all__ = ["Attention"]
