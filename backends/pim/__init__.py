"""Memories that compute, simulated command by command: GDDR6-AiM, HBM-PIM, AttAcc, NeuPIMs, UPMEM; see docs/pim.md."""

from fettle.backends.pim.backend import PimBackend

__all__ = ["PimBackend"]
