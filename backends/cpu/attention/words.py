"""Vectors of heads: lines of keys and values in registers, dot products, transposing sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm.target.codegen import llvm_lookup_intrinsic_id
from tvm.tirx.script.builder import ir as T

from fettle.backends.api import Device
from fettle.backends.cpu.attention.orders import alternating, repeated
from fettle.backends.cpu.attention.plan import Plan
from fettle.backends.cpu.rows.vectors import Vectors

LOWEST = -3.4028234663852886e38

_BF16 = """
declare <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(<{n} x float>, <{nn} x bfloat>, <{nn} x bfloat>)
define <{n} x float> @fettle_dot_bf16(<{n} x float> %sum, <{n} x i32> %a, <{n} x i32> %b) alwaysinline {{
  %left = bitcast <{n} x i32> %a to <{nn} x bfloat>
  %right = bitcast <{n} x i32> %b to <{nn} x bfloat>
  %result = call <{n} x float> @llvm.x86.avx512bf16.dpbf16ps.{bits}(
    <{n} x float> %sum, <{nn} x bfloat> %left, <{nn} x bfloat> %right)
  ret <{n} x float> %result
}}
define <{n} x i16> @fettle_round_bf16(<{n} x float> %value) alwaysinline {{
  %narrow = fptrunc <{n} x float> %value to <{n} x bfloat>
  %result = bitcast <{n} x bfloat> %narrow to <{n} x i16>
  ret <{n} x i16> %result
}}
"""
"""TensorIR rewrites arithmetic on bf16 into f32; LLVM IR says what the processor can."""


class Words(Vectors):
    """The vectors of a plan. A *register* is a vector of ``lanes`` f32 or, if ``plan.bf16``, of pairs of bf16."""

    def __init__(self, plan: Plan, device: Device) -> None:
        super().__init__(device)
        self.scales = self.scales and plan.lanes == self.lanes
        self.lanes = plan.lanes
        self.dtype = f"float32x{plan.lanes}"
        self.plan = plan
        self.register = "int32" if plan.bf16 else "float32"

    @contextmanager
    def functions(self) -> Iterator[None]:
        """Around all statements of a kernel: in it :meth:`dot` and :meth:`round_bf16` work."""
        if not self.plan.bf16:
            yield
            return
        n = self.lanes
        with T.attr(0, "pragma_import_llvm", _BF16.format(n=n, nn=2 * n, bits=32 * n)):
            yield

    # values

    def hold(self, value: Any, dtype: str = "float32", count: int = 0) -> Any:
        """As :meth:`let`, for a vector of any type, of ``count`` elements or ``lanes``."""
        count = count or self.lanes
        variable = T.alloc_buffer((count,), dtype)
        T.buffer_store(variable, value, [T.Ramp(0, 1, count)])
        return variable[T.Ramp(0, 1, count)]

    def opaque(self, index: Any) -> Any:
        """An index that TVM's simplifier does not look into: quotients of long sums take it seconds."""
        variable = T.alloc_buffer((1,), "int64")
        T.buffer_store(variable, index, [0])
        return variable[0]

    def dot(self, total: Any, a: Any, b: Any) -> Any:
        """total + a·b, lane by lane; of two pairs of bf16 both products."""
        if self.plan.bf16:
            return T.call_extern(self.dtype, "fettle_dot_bf16", total, a, b)
        return self.multiply_add(a, b, total)

    def round_bf16(self, value: Any) -> Any:
        """bf16 bits, uint16, nearest."""
        return T.call_extern(f"uint16x{self.lanes}", "fettle_round_bf16", value)

    def interleave(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Elements of two vectors alternating, as two vectors."""
        n = self.lanes
        order = alternating(0, n, n)
        return T.Shuffle([low, high], order[:n]), T.Shuffle([low, high], order[n:])

    def pair(self, a: Any, b: Any, width: int, dtype: str = "float32") -> Any:
        """One step of the transposing sum: halves of a and b added, a's sums before b's in every 128 bits."""
        n = self.lanes
        if width == 1:
            low, high = repeated((0, n, 1, n + 1), 4, n), repeated((2, n + 2, 3, n + 3), 4, n)
        elif width == 2:
            low, high = repeated((0, 1, n, n + 1), 4, n), repeated((2, 3, n + 2, n + 3), 4, n)
        else:  # every 128 bits are sums already: the even ones of both, and the odd ones
            low, high = repeated(range(4), 8, 2 * n), repeated(range(4, 8), 8, 2 * n)
        return self.hold(T.Shuffle([a, b], low) + T.Shuffle([a, b], high), dtype)

    # memory

    def side_by_side(self, cache: Any, row: Any, other: Any, start: Any) -> list[Any]:
        """A line of two rows of bf16 values: registers of pairs, in the order of ``dim``."""
        n, line = self.lanes, self.plan.line
        place = T.Ramp(start, T.int64(1), line)
        rows = [T.reinterpret(f"uint16x{line}", cache[at, place]) for at in (row, other)]
        halves = [alternating(first, n, line) for first in (0, n)]
        return [self.hold(T.reinterpret(f"int32x{n}", T.Shuffle(rows, half)), "int32") for half in halves]

    def store_weights(self, weights: Any, row: Any, index: Any, value: Any) -> None:
        """Vector ``index`` of a row of probabilities, rounded to bf16 if the plan says so."""
        n = self.lanes
        if not self.plan.bf16:
            T.buffer_store(weights, value, [row, T.Ramp(index * n, T.int64(1), n)])
            return
        halves = T.reinterpret(f"int32x{n // 2}", self.round_bf16(value))
        T.buffer_store(weights, halves, [row, T.Ramp(index * (n // 2), T.int64(1), n // 2)])

    def prefetch(self, cache: Any, indices: Sequence[Any]) -> None:
        """Ask for the line at ``indices``; it may lie past the end."""
        address = T.address_of(cache[tuple(indices)])
        T.evaluate(T.call_llvm_intrin("void", llvm_lookup_intrinsic_id("llvm.prefetch"), address, 0, 3, 1))

    def lowest(self) -> Any:
        return self.constant(LOWEST)


def until(extent: int, step: int, body: Callable[[Any, int], None]) -> None:
    """Call ``body(start, count)`` for a loop of whole steps, and once more for the rest."""
    whole, rest = divmod(extent, step)
    if whole == 1:
        body(T.int64(0), step)
    elif whole:
        with T.serial(T.int64(0), T.int64(whole)) as index:
            body(index * step, step)
    if rest:
        body(T.int64(whole * step), rest)
