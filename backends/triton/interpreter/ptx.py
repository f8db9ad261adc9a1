"""A small emulator of the PTX that templates write inline: 32-bit logic, shifts, byte permutes, fma of pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.backends.triton.interpreter.bf16 import narrow, widen
from fettle.graph.errors import Unsupported

Registers = NDArray[np.uint32]

_STATEMENT_END = re.compile(r"[;\n{}]")


def execute(assembly: str, outputs: int, inputs: Sequence[Registers]) -> list[Registers]:
    """The output registers ``$0 …`` of straight-line assembly whose inputs are ``$outputs …``; all 32 bits.

    Raises:
        Unsupported: an instruction the emulator lacks.
    """
    registers = {f"${outputs + i}": values for i, values in enumerate(inputs)}
    for line in _STATEMENT_END.split(assembly):
        statement = line.strip()
        if not statement or statement.startswith(".reg"):
            continue
        mnemonic, _, rest = statement.partition(" ")
        target, *operands = (part.strip() for part in rest.split(","))
        name = mnemonic if mnemonic.startswith("fma") else mnemonic.split(".")[0]
        if name not in _INSTRUCTIONS:
            raise Unsupported(f"the emulator of inline PTX lacks {mnemonic!r}")
        values = [registers[o] if o in registers else np.uint32(int(o, 0)) for o in operands]
        shape = inputs[0].shape
        registers[target] = np.broadcast_to(_INSTRUCTIONS[name](*values), shape).astype(np.uint32)
    return [registers[f"${i}"] for i in range(outputs)]


def _lop3(a: Registers, b: Registers, c: Registers, table: np.uint32) -> Registers:
    """Bit i of the 8-bit table is the result where (a, b, c) read as a number is i (PTX ISA, ``lop3``)."""
    result = np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b), np.shape(c)), np.uint32)
    for i in range(8):
        if int(table) >> i & 1:
            result |= (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
    return result


def _fma(
    widen: Callable[[Registers], NDArray[np.float64]], narrow: Callable[..., NDArray[np.uint16]]
) -> Callable[..., Registers]:
    """``a · b + c`` of both halves of registers, rounded once but for ties that are missed by less than f64 shows."""

    def fma(*registers: Registers) -> Registers:
        result = np.zeros(np.broadcast_shapes(*map(np.shape, registers)), np.uint32)
        for shift in (np.uint32(0), np.uint32(16)):
            a, b, c = (widen((r >> shift).astype(np.uint16)) for r in registers)
            with np.errstate(invalid="ignore", over="ignore"):  # of codes that are no numbers
                result |= narrow(a * b + c).astype(np.uint32) << shift
        return result

    return fma


def _prmt(a: Registers, b: Registers, selector: np.uint32) -> Registers:
    """Nibble i of the selector names which of the eight bytes of (a, b) becomes byte i; no sign replication."""
    pool = [(source >> np.uint32(8 * i)) & np.uint32(0xFF) for source in (a, b) for i in range(4)]
    result = np.zeros(np.shape(a), np.uint32)
    for i in range(4):
        chosen = int(selector) >> (4 * i) & 15
        if chosen > 7:
            raise Unsupported("the emulator of inline PTX does not replicate signs")
        result |= pool[chosen] << np.uint32(8 * i)
    return result


_INSTRUCTIONS: dict[str, Callable[..., Registers]] = {
    "fma.rn.f16x2": _fma(
        lambda bits: bits.view(np.float16).astype(np.float64), lambda x: x.astype(np.float16).view(np.uint16)
    ),
    "fma.rn.bf16x2": _fma(lambda bits: widen(bits).astype(np.float64), narrow),
    "lop3": _lop3,
    "prmt": _prmt,
    "shr": np.right_shift,
    "shl": np.left_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "mov": np.array,
}
