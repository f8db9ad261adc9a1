"""What one step along k multiplies: a number of x with a row of W, or a pair of bfloat16 with a row of pairs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tvm.tirx.script.builder import ir as T

_PAIRS = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define <16 x float> @fettle_dot_pairs(<16 x float> %sum, <16 x i32> %a, <16 x i32> %b) alwaysinline {
  %x = bitcast <16 x i32> %a to <32 x bfloat>
  %y = bitcast <16 x i32> %b to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %sum, <32 x bfloat> %x, <32 x bfloat> %y)
  ret <16 x float> %result
}
"""
"""TensorIR rewrites its bfloat16 type to integers, so that the instruction cannot be named there."""


def element(pairs: int) -> str:
    """Type of an element of packed x and W: two bfloat16 travel as one int32, the lower k in the lower half."""
    return "int32" if pairs == 2 else "float32"


def scope(pairs: int) -> AbstractContextManager[Any]:
    """Around all statements of a kernel that uses :func:`multiply_add`."""
    return nullcontext() if pairs == 1 else T.attr(0, "pragma_import_llvm", _PAIRS)


def multiply_add(total: Any, x: Any, w: Any, lanes: int, pairs: int) -> Any:
    """``total + x · w`` for one element of x, spread, and a vector of W."""
    x = T.broadcast(x, lanes)
    if pairs == 1:
        return total + x * w
    return T.call_extern(f"float32x{lanes}", "fettle_dot_pairs", total, x, w)
