"""Floats as integers of 8 bits. Imports TVM: import it lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.target.codegen import llvm_lookup_intrinsic_id
from tvm.tirx.op import call_llvm_pure_intrin
from tvm.tirx.script.builder import ir as T

DTYPES = {"u8": "uint8", "i8": "int8"}
"""Of formats of codes."""

_NEAREST = {16: "llvm.x86.avx512.mask.cvtps2dq.512", 8: "llvm.x86.avx.cvt.ps2dq.256", 4: "llvm.x86.sse2.cvtps2dq"}
"""Conversion by the rounding mode that all float arithmetic has, by lanes."""

_CURRENT_MODE = 4


def codes(value: Any, lanes: int, dtype: str, is_x86: bool) -> Any:
    """A vector of float32 as codes: the nearest whole number, halves to the even one, between the type's bounds."""
    limits, floats, words = np.iinfo(dtype), f"float32x{lanes}", f"int32x{lanes}"
    low, high = (T.Broadcast(T.float32(limit), lanes) for limit in (limits.min, limits.max))
    kept = T.min(T.max(value, low), high)
    if not is_x86:
        whole = T.Cast(words, call_llvm_pure_intrin(floats, "llvm.roundeven", kept))
    elif lanes == 16:
        name, zeros = llvm_lookup_intrinsic_id(_NEAREST[lanes]), T.Broadcast(T.int32(0), lanes)
        whole = call_llvm_pure_intrin(words, name, kept, zeros, T.int16(-1), T.int32(_CURRENT_MODE))
    else:
        whole = call_llvm_pure_intrin(words, llvm_lookup_intrinsic_id(_NEAREST[lanes]), kept)
    return T.Cast(f"{dtype}x{lanes}", whole)
