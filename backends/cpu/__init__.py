"""The CPU backend: kernels written as TensorIR, compiled by TVM and LLVM, loaded without either."""

from fettle.backends.cpu.backend import CpuBackend

__all__ = ["CpuBackend"]
