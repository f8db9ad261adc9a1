"""Statements over float32 vectors of one width, emitted into the TensorIR function being built.

Arrays in memory may be narrower: bf16, f16 and codes of 8 bits are widened when loaded, and rounded to nearest even
when stored, codes between their bounds. Loops over the vectors of a row are in ``loops``, stores past the caches in
``streaming``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.target.codegen import llvm_lookup_intrinsic_id
from tvm.tirx.op import call_llvm_pure_intrin, masked_load, masked_store
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.rows.arrays import ELEMENT_BYTES, element_dtype
from fettle.backends.cpu.rows.codes import DTYPES, codes


class Registers:
    """A few vectors that stay in registers: every index is a constant once the code is emitted.

    TVM puts small buffers of the default scope on the stack, from where LLVM moves them into registers; those of
    1 KB and more, and of scope ``local``, it would allocate from the heap.
    """

    def __init__(self, v: Vectors, count: int, value: float) -> None:
        self._v = v
        self._buffers = [T.alloc_buffer((v.lanes,), "float32") for _ in range(count)]
        self.fill(value)

    def fill(self, value: float) -> None:
        """The same number in every lane of all of them."""
        for slot in range(len(self._buffers)):
            self[slot] = self._v.constant(value)

    def __getitem__(self, slot: int) -> Any:
        return self._buffers[slot][T.Ramp(0, 1, self._v.lanes)]

    def __setitem__(self, slot: int, value: Any) -> None:
        T.buffer_store(self._buffers[slot], value, [T.Ramp(0, 1, self._v.lanes)])

    def reduce(self, operation: Callable[[Any, Any], Any], slots: Sequence[int]) -> Any:
        """All lanes of some registers combined to one number, as a balanced tree."""
        values = [self._v.let(self[slot]) for slot in slots]
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=False)
            odd = [values[-1]] if len(values) % 2 else []
            values = [self._v.let(operation(a, b)) for a, b in pairs] + odd
        value, width = values[0], self._v.lanes
        while width > 1:
            width //= 2
            low, high = list(range(width)), list(range(width, 2 * width))
            value = self._v.let(operation(T.Shuffle([value], low), T.Shuffle([value], high)))
        return value


class Scalar:
    """One float32 variable."""

    def __init__(self, value: Any) -> None:
        self._buffer = T.alloc_buffer((1,), "float32")
        self.set(value)

    def get(self) -> Any:
        return self._buffer[0]

    def set(self, value: Any) -> None:
        T.buffer_store(self._buffer, value, [0])


class Vectors:
    """The vectors of a device.

    Attributes:
        lanes: float32 values per vector.
        fuses: multiply and add round once.
        is_x86: the device has the instructions of x86.
        scales: the device multiplies by powers of two, and rounds to whole numbers, in one instruction each.
        act: format of arrays in memory: ``f32``, ``bf16``, ``f16`` (which needs the feature f16c), ``u8`` or ``i8``.
        size: bytes of an element in memory.
    """

    def __init__(self, device: Device, act: str = "f32") -> None:
        features = cpu.features(device)
        self.act = act
        self.size = ELEMENT_BYTES[act]
        self.lanes = cpu.vector_bits(device) // 32
        self.dtype = f"float32x{self.lanes}"
        self.fuses = "fma" in features
        self.scales = "avx512f" in features
        self.is_x86 = cpu.is_x86(device)
        self._device = device

    def of_floats(self) -> Vectors:
        """The same vectors, of arrays of f32."""
        return self.of("f32")

    def of(self, act: str) -> Vectors:
        """The same vectors, of arrays of another format."""
        return Vectors(self._device, act)

    # values

    def let(self, value: Any) -> Any:
        """Compute once, use often.

        A vector goes through a local variable that LLVM puts in a register: bound names would have TVM's
        simplifier follow every definition, which makes compiling ten times slower.
        """
        if str(value.ty.dtype) != self.dtype:
            return T.Bind(value)
        variable = T.alloc_buffer((self.lanes,), "float32")
        T.buffer_store(variable, value, [T.Ramp(0, 1, self.lanes)])
        return variable[T.Ramp(0, 1, self.lanes)]

    def constant(self, value: float) -> Any:
        return T.Broadcast(T.float32(value), self.lanes)

    def integer(self, value: int) -> Any:
        return T.Broadcast(T.int32(value), self.lanes)

    def spread(self, scalar: Any) -> Any:
        """A number in every lane."""
        return self.let(T.Broadcast(scalar, self.lanes))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a·b + c, rounded once where the device can."""
        return call_llvm_pure_intrin(self.dtype, "llvm.fmuladd", a, b, c)

    def round(self, x: Any) -> Any:
        """To the nearest whole number; only where :attr:`scales`."""
        return call_llvm_pure_intrin(self.dtype, "llvm.roundeven", x)

    def scale(self, x: Any, n: Any) -> Any:
        """x·2^n for whole n, rounded once; only where :attr:`scales`."""
        name = llvm_lookup_intrinsic_id("llvm.x86.avx512.mask.scalef.ps.512")
        return call_llvm_pure_intrin(self.dtype, name, x, n, x, T.int16(-1), T.int32(4))

    def bits(self, x: Any) -> Any:
        return T.reinterpret(f"int32x{self.lanes}", x)

    def from_bits(self, x: Any) -> Any:
        return T.reinterpret(self.dtype, x)

    def shift_left(self, x: Any, count: int) -> Any:
        return T.shift_left(x, self.integer(count))

    def where(self, condition: Any, then: Any, otherwise: Any) -> Any:
        return T.Select(condition, then, otherwise)

    def first(self, count: Any) -> Any:
        """Mask of the first ``count`` lanes."""
        return T.Ramp(0, 1, self.lanes) < T.Broadcast(T.cast(count, "int32"), self.lanes)

    # memory

    def load(self, buffer: Any, indices: Sequence[Any], mask: Any = None, absent: float = 0.0) -> Any:
        """A vector from consecutive elements; lanes outside the mask are not read and hold ``absent``."""
        dtype = _vector(element_dtype(self.act), self.lanes)
        if mask is None:
            return self.let(self._widen(buffer.vload(list(indices), dtype), self.lanes))
        *outer, last = indices
        value = self.let(self._widen(masked_load(dtype, buffer, *outer, self._ramp(last), mask), self.lanes))
        return self.let(self.where(mask, value, self.constant(absent)))

    def store(self, buffer: Any, indices: Sequence[Any], value: Any, mask: Any = None) -> None:
        """A vector to consecutive elements; lanes outside the mask are not written."""
        *outer, last = indices
        value = self._narrow(value, self.lanes)
        if mask is None:
            T.buffer_store(buffer, value, [*outer, self._ramp(last)])
        else:
            T.evaluate(masked_store(buffer, self._fenced(value), *outer, self._ramp(last), mask))

    def prefetch(self, buffer: Any, offset: Any) -> None:
        """Ask for the cache line of an element, into the second-level cache. It need not exist."""
        address = buffer.access_ptr("r", offset=offset)
        T.evaluate(T.call_llvm_intrin("void", llvm_lookup_intrinsic_id("llvm.prefetch"), address, 0, 2, 1))

    def load_one(self, buffer: Any, indices: Sequence[Any]) -> Any:
        """One element as float64."""
        return T.cast(self._widen(buffer[tuple(indices)], 1), "float64")

    def store_one(self, buffer: Any, indices: Sequence[Any], value: Any) -> None:
        """One float64 as an element."""
        T.buffer_store(buffer, self._narrow(T.cast(value, "float32"), 1), list(indices))

    def _widen(self, raw: Any, lanes: int) -> Any:
        """Elements as float32."""
        if self.act == "f32":
            return raw
        if self.act in DTYPES:
            return T.Cast(_vector("float32", lanes), T.Cast(_vector("int32", lanes), raw))
        if self.act == "f16":
            return T.Cast(_vector("float32", lanes), T.reinterpret(_vector("float16", lanes), raw))
        wide = T.Cast(_vector("uint32", lanes), raw)
        return T.reinterpret(_vector("float32", lanes), T.shift_left(wide, _constant(16, lanes)))

    def _narrow(self, value: Any, lanes: int) -> Any:
        """float32 as elements, ties to even; NaN stays NaN."""
        if self.act == "f32":
            return value
        if self.act in DTYPES:
            return codes(value, lanes, DTYPES[self.act], self.is_x86)
        value = self.let(value)
        if self.act == "f16":
            return T.reinterpret(_vector("uint16", lanes), T.Cast(_vector("float16", lanes), value))
        bits = T.reinterpret(_vector("uint32", lanes), value)
        odd = T.bitwise_and(T.shift_right(bits, _constant(16, lanes)), _constant(1, lanes))
        rounded = T.shift_right(bits + odd + _constant(0x7FFF, lanes), _constant(16, lanes))
        kept = T.Select(value == value, rounded, _constant(0x7FC0, lanes))  # noqa: PLR0124  false for NaN
        return T.Cast(_vector("uint16", lanes), kept)

    def _fenced(self, value: Any) -> Any:
        """The elements, hidden from a rule of LLVM 22: it joins cutting 32 bits down to 16 or 8 and a masked store to
        one instruction and, where it knows that the mask has one lane, writes all 32 bits."""
        if self.act in ("f32", "f16"):
            return value
        floats = _vector("float32", self.lanes * self.size // 4)
        opaque = call_llvm_pure_intrin(floats, "llvm.arithmetic.fence", T.reinterpret(floats, value))
        return T.reinterpret(_vector(element_dtype(self.act), self.lanes), opaque)

    def _ramp(self, start: Any) -> Any:
        start = T.int64(start) if isinstance(start, int) else T.cast(start, "int64")
        return T.Ramp(start, T.int64(1), self.lanes)

    # tasks

    def tasks(self, count: int, threads: int) -> Any:
        """A loop over independent tasks; threads take contiguous shares."""
        return (T.parallel if threads > 1 else T.serial)(T.int64(0), T.int64(count))


def _vector(dtype: str, lanes: int) -> str:
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def _constant(value: int, lanes: int) -> Any:
    return T.Broadcast(T.uint32(value), lanes) if lanes > 1 else T.uint32(value)
