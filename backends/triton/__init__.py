"""Kernels for GPUs, written in Triton: compiled ahead of time for any target, proven in the interpreter, predicted."""

from fettle.backends.triton.backend import TritonBackend

__all__ = ["TritonBackend"]
