"""A proxy of a systolic device's area, from published cells: to compare designs of a kind, not to tape one out."""

from __future__ import annotations

from fettle.backends.npu.systolic.hardware import BIT_SERIAL, LUT, Systolic

UM2_PER_MAC = 282.0 + 36.0 + 137.0
"""45 nm: an 8-bit multiplier, an 8-bit adder, a 32-bit adder (Horowitz, ISSCC 2014, energies; areas as tabulated by
Gholami et al., 2103.13630, fig. 9, after Horowitz)."""

UM2_PER_SERIAL_MAC = 36.0 + 137.0
"""The adders of the above, without the multiplier: one bit of a weight selects or skips the input."""

UM2_PER_LOOKUP = 137.0 + 4 * 36.0
"""An accumulator, and the multiplexer of an 8-entry table taken as four 8-bit adders: an assumption."""

UM2_PER_SRAM_BYTE = 8 * 0.346
"""6T cells of a 45 nm process, 0.346 µm² (Mistry et al., IEDM 2007), periphery not counted."""

UM2_PER_VECTOR_LANE = 4184.0 + 7700.0
"""A 32-bit floating-point adder and multiplier, same source as the MAC."""


def square_millimetres(hardware: Systolic) -> float:
    """Area of arrays, scratchpads, memory tier and vector unit."""
    elements = hardware.rows * hardware.cols
    if hardware.pe == LUT:
        compute = hardware.units * 2 * 64 * UM2_PER_LOOKUP
    elif hardware.pe == BIT_SERIAL:
        compute = elements * UM2_PER_SERIAL_MAC
    else:
        compute = elements * UM2_PER_MAC
    sram = hardware.sram_bytes * UM2_PER_SRAM_BYTE
    shared = hardware.vector * UM2_PER_VECTOR_LANE + 1024 * hardware.tier * UM2_PER_SRAM_BYTE
    return (hardware.arrays * (compute + sram) + shared) * 1e-6
