"""NPUs: a simulated systolic array (``systolic/``), and Arm Ethos-U as its compiler estimates it (``ethos/``)."""

from fettle.backends.npu.backend import NpuBackend

__all__ = ["NpuBackend"]
