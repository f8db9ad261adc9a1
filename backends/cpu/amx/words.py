"""Tile instructions for the IR builder. Imports TVM: import it lazily.

A product adds to the tile ``total`` [m, n] of 32-bit sums what ``a`` and ``b`` multiply to. Row i of ``a`` is row i of
x; row j of ``b`` holds, for each of 16 columns, the four bytes (or two bfloat16) of k = 4·j … (2·j …). Tile numbers
are constants: like registers, tiles cannot be indexed.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm.target.codegen import llvm_lookup_intrinsic_id

from fettle.backends.cpu.gemv.words import Buffer, Expr, Place, T


def configure(shapes: Sequence[tuple[int, int]]) -> None:
    """Emit the shapes of tiles 0, 1, …: (rows, bytes of a row). All tiles become zero."""
    data = bytearray(64)  # palette, start row, 14 reserved, u16 bytes of a row by tile, at 48 u8 rows by tile
    data[0] = 1
    for tile, (rows, row_bytes) in enumerate(shapes):
        data[16 + 2 * tile] = row_bytes
        data[48 + tile] = rows
    memory = T.alloc_buffer((16,), "int32", scope="local", align=64)
    for word in range(16):
        value = int.from_bytes(data[4 * word : 4 * word + 4], "little", signed=True)
        T.buffer_store(memory, T.int32(value), [word])
    _emit("ldtilecfg", pointer(memory, 0))


def release() -> None:
    """Emit the end of tile use: all tiles back to their initial state, which the system need not save."""
    _emit("tilerelease")


def zero(tile: int) -> None:
    """Emit a tile of zeros."""
    _emit("tilezero", T.int8(tile))


def load(tile: int, buffer: Buffer, place: Place, stride: int) -> None:
    """Emit the load of a tile whose rows begin ``stride`` bytes apart, the first at ``buffer[place]``."""
    _emit("tileloadd64", T.int8(tile), pointer(buffer, place), T.int64(stride))


def store(tile: int, buffer: Buffer, place: Place, stride: int) -> None:
    """Emit the store of a tile; see :func:`load`."""
    _emit("tilestored64", T.int8(tile), pointer(buffer, place), T.int64(stride))


def pointer(buffer: Buffer, place: Place) -> Expr:
    """The address of an element, through which all of the buffer may be read and written.

    TVM shrinks allocated buffers to the elements it sees used, and ``address_of`` is a use of a single one. There is no
    such pointer into bfloat16, but those are arguments, which keep their size.
    """
    indices = place if isinstance(place, tuple) else (place,)
    if buffer.ty.dtype == "bfloat16":
        return T.address_of(buffer[indices])
    offset = 0
    for extent, index in zip(buffer.ty.shape, indices, strict=True):
        offset = offset * extent + index
    return buffer.access_ptr("rw", offset=offset)


def multiply(kind: str, total: int, a: int, b: int) -> None:
    """Emit ``total += a · b``.

    Args:
        kind: ``bssd`` for int8 by int8, ``bsud`` for int8 by uint8, ``bf16ps`` for bfloat16.
    """
    _emit(f"tdp{kind}", T.int8(total), T.int8(a), T.int8(b))


def _emit(name: str, *arguments: Expr) -> None:
    T.evaluate(T.call_llvm_intrin("void", llvm_lookup_intrinsic_id(f"llvm.x86.{name}"), *arguments))
