"""The vector words the kernels are written in, over TVM's IR builder. Imports TVM: import it lazily.

Expressions and buffers are TVM objects; this package treats them as opaque (``Any``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from tvm.script.ir_builder import tirx
from tvm.target.codegen import llvm_lookup_intrinsic_id

T: Any = tirx
"""The builder, under the name it has in TVM's documentation."""

Expr = Any
Buffer = Any


Place = Expr | tuple[Expr, Expr]
"""Where an element is: an offset into a flat buffer, or (row, column)."""


def argument(name: str, shape: Sequence[int], dtype: str) -> Buffer:
    """A parameter of the kernel, at any address of its element type."""
    return T.arg(name, T.buffer(shape, dtype, align=np.dtype(dtype).itemsize))


def load(buffer: Buffer, place: Place, lanes: int) -> Expr:
    """``lanes`` neighbouring elements, bound to a name so that they are loaded once."""
    return T.Bind(read(buffer, place, lanes))


def read(buffer: Buffer, place: Place, lanes: int) -> Expr:
    """``lanes`` neighbouring elements, loaded where the expression is used."""
    *outer, last = place if isinstance(place, tuple) else (place,)
    return buffer[(*outer, T.ramp(last, 1, lanes) if lanes > 1 else last)]


def store(buffer: Buffer, place: Place, value: Expr, lanes: int) -> None:
    """Store ``lanes`` neighbouring elements."""
    *outer, last = place if isinstance(place, tuple) else (place,)
    T.buffer_store(buffer, value, [*outer, T.ramp(last, 1, lanes) if lanes > 1 else last])


def pieces(count: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(start, lanes, how many) of runs of vectors that cover ``count`` elements and read none beyond."""
    start, lanes = 0, most
    while start < count:
        times = (count - start) // lanes
        if times:
            yield start, lanes, times
            start += times * lanes
        lanes //= 2


def vector(dtype: str, lanes: int) -> str:
    """Name of a vector type."""
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def constant(value: float, dtype: str, lanes: int) -> Expr:
    """A vector of equal constants."""
    return splat(getattr(T, dtype)(value), lanes)


def splat(value: Expr, lanes: int) -> Expr:
    """A scalar in every lane."""
    return T.broadcast(value, lanes) if lanes > 1 else value


def intrinsic(dtype: str, name: str, *arguments: Expr) -> Expr:
    """A side-effect-free LLVM intrinsic."""
    return T.call_llvm_pure_intrin(dtype, llvm_lookup_intrinsic_id(name), *arguments)


def prefetch(buffer: Buffer, offset: Expr) -> None:
    """Ask for the cache line at ``offset``, into all levels; it may lie past the end."""
    address = T.address_of(buffer[offset])
    T.evaluate(T.call_llvm_intrin("void", llvm_lookup_intrinsic_id("llvm.prefetch"), address, 0, 3, 1))


def fold(value: Expr, lanes: int, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a vector combined, by halving."""
    while lanes > 1:
        lanes //= 2
        low = T.Shuffle([value], list(range(lanes)))
        high = T.Shuffle([value], list(range(lanes, 2 * lanes)))
        value = T.Bind(combine(low, high))
    return value


def transposed(vectors: Sequence[Any], hold: Callable[[Any], Any]) -> list[Any]:
    """As many vectors as each has elements, rows and columns exchanged; ``hold`` computes a vector once."""
    n, rows = len(vectors), list(vectors)
    step = 1
    while step < n:
        low = [j if not j & step else n + j - step for j in range(n)]
        high = [j + step if not j & step else n + j for j in range(n)]
        for i in range(n):
            if not i & step:
                pair = [rows[i], rows[i + step]]
                rows[i], rows[i + step] = (hold(T.Shuffle(pair, order)) for order in (low, high))
        step *= 2
    return rows


class Registers:
    """``count`` vectors that live in registers: buffers of one vector each, zeroed unless told otherwise.

    TVM puts small buffers of the default scope on the stack, from where LLVM moves them into registers. Those of 1 KB
    and more, and of scope ``local``, it takes from the heap: then a prefetch in a loop, which might read anything for
    all LLVM knows, has every sum stored in each iteration.
    """

    def __init__(self, count: int, dtype: str, lanes: int, zeroed: bool = True) -> None:
        self._buffers = [T.alloc_buffer((lanes,), dtype, align=64) for _ in range(count)]
        self._lanes = lanes
        if zeroed:
            for index in range(count):
                self[index] = constant(0, dtype, lanes)

    def __getitem__(self, index: int) -> Expr:
        return read(self._buffers[index], 0, self._lanes)

    def __setitem__(self, index: int, value: Expr) -> None:
        store(self._buffers[index], 0, value, self._lanes)


def loop(extent: int) -> AbstractContextManager[Expr]:
    """A serial loop; none at all for one iteration."""
    return nullcontext(0) if extent == 1 else T.serial(extent)


def parallel(extent: int) -> AbstractContextManager[Expr]:
    """A parallel loop; none at all for one iteration."""
    return nullcontext(0) if extent == 1 else T.parallel(extent)


def total(values: Sequence[Expr]) -> Expr:
    """Sum of expressions."""
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def accumulate(sums: dict[int, Expr], key: int, value: Expr) -> None:
    """Add to a running sum, here and now, so that nothing waits in a register to be added."""
    sums[key] = T.Bind(sums[key] + value if key in sums else value)
