"""Words of four codes of 8 bits, and how a device multiplies them. Needs no TVM."""

from __future__ import annotations

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu

WORD = 4
"""Codes of a word: what a dot product of bytes adds to one sum."""

OFFSET = {"u8": 0, "i8": 128}
"""What is added to codes of a format to make them unsigned."""


def dots_of(device: Device) -> str:
    """How bytes are multiplied, see :mod:`fettle.backends.cpu.integers.dots`."""
    needed = {512: "avx512vnni", 256: "avxvnni"}.get(cpu.vector_bits(device))
    if needed in cpu.features(device):
        return "vnni"
    return "pairs" if cpu.is_x86(device) else "plain"
