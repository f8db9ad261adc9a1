"""NPUs: a simulated systolic array with scratchpad and DMA (``systolic/``)."""

from fettle.backends.npu.backend import NpuBackend

__all__ = ["NpuBackend"]
