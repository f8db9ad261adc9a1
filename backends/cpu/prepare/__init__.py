"""The operator ``quantize``: activations rounded to 8 bits, as codes or tables, once for all their products."""

from fettle.backends.cpu.prepare.family import Prepare

__all__ = ["Prepare"]
