"""bf16 as raw bits, which is how Triton's interpreter keeps it, and as float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def widen(bits: NDArray[np.generic]) -> NDArray[np.float32]:
    """bf16 as raw bits to float32."""
    return (bits.astype(np.uint16).astype(np.uint32) << 16).view(np.float32)


def narrow(values: NDArray[np.generic]) -> NDArray[np.uint16]:
    """float32 to raw bits of bf16, to the nearest, ties to even."""
    word = np.ascontiguousarray(values.astype(np.float32)).view(np.uint32)
    rounded = ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values.astype(np.float32)), np.uint16(0x7FC0), rounded)
