"""The kernels that measure roofs: reading memory, and register-only arithmetic. Each thread works for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu

STREAMS = (4, 16)
"""Vectors one iteration of the read kernel takes in: which is faster differs by core and level."""


AHEAD = (0, 1 << 8)
"""Elements that it asks for ahead: from memory a Zen 4 reads up to a tenth more in a second then, from caches less."""

_LINE = 16
"""Elements of a cache line."""


@attrs.frozen
class Peak:
    """A register-only loop: one instruction repeated on ``accumulators`` independent registers.

    Attributes:
        roof: the roof it measures.
        dtype: element type of the accumulator.
        operations: arithmetic operations per vector instruction.
        accumulators: independent chains, enough to hide the latency.
        step: (T, accumulator, a, b) -> next accumulator; ``a`` and ``b`` are loop-invariant registers.
    """

    roof: str
    dtype: str
    operations: int
    accumulators: int
    step: Callable[[Any, Any, Any, Any], Any]


def peaks(device: Device) -> tuple[Peak, ...]:
    """The arithmetic peaks that the device's instruction set has."""
    usable = cpu.features(device)
    bits = cpu.vector_bits(device)
    count = 20 if bits == 512 else 10
    result = [Peak("peak:f32", "float32", 2 * bits // 32, count, lambda T, acc, a, b: acc * a + b)]
    if "avx512vnni" in usable:
        result.append(Peak("peak:i8", "int32", 2 * 64, count, _intrinsic("llvm.x86.avx512.vpdpbusd.512", "int8x64")))
    elif "avxvnni" in usable:
        result.append(Peak("peak:i8", "int32", 2 * 32, count, _intrinsic("llvm.x86.avx512.vpdpbusd.256", "int8x32")))
    elif "avx2" in usable:
        result.append(Peak("peak:i8", "int32", 2 * bits // 8, count, _multiply_add_bytes(bits)))
    return tuple(result)


def _intrinsic(name: str, dtype: str) -> Callable[[Any, Any, Any, Any], Any]:
    """acc = intrinsic(acc, a, b)."""

    def step(T: Any, acc: Any, a: Any, b: Any) -> Any:
        operands = [T.reinterpret(dtype, a), T.reinterpret(dtype, b)]
        return T.call_llvm_pure_intrin(acc.ty.dtype, _lookup(name), acc, *operands)

    return step


def _multiply_add_bytes(bits: int) -> Callable[[Any, Any, Any, Any], Any]:
    """acc += pmaddwd(pmaddubsw(acc, a), b): what AVX2 and AVX-512 without VNNI multiply bytes with.

    The bytes come from the accumulator itself, or the compiler would compute the product once.
    """
    suffix, words = (
        ("avx512.pmaddubs.w.512", "avx512.pmaddw.d.512") if bits == 512 else ("avx2.pmadd.ub.sw", "avx2.pmadd.wd")
    )

    def step(T: Any, acc: Any, a: Any, b: Any) -> Any:
        lanes = bits // 8
        bytes_ = [T.reinterpret(f"int8x{lanes}", acc), T.reinterpret(f"int8x{lanes}", a)]
        pairs = T.call_llvm_pure_intrin(f"int16x{lanes // 2}", _lookup(f"llvm.x86.{suffix}"), *bytes_)
        ones = T.reinterpret(f"int16x{lanes // 2}", b)
        return acc + T.call_llvm_pure_intrin(f"int32x{lanes // 4}", _lookup(f"llvm.x86.{words}"), pairs, ones)

    return step


def _lookup(name: str) -> Any:
    from tvm.target.codegen import llvm_lookup_intrinsic_id

    return llvm_lookup_intrinsic_id(name)


def read_kernel(streams: int, lanes: int, capacity: int, threads: int, ahead: int = 0) -> Any:
    """``(data[capacity] i32, out[threads, lanes] i32, blocks, passes)``: each thread reads its ``blocks`` blocks of
    ``streams · lanes`` elements ``passes`` times, the part of thread p starting at ``p · blocks``; it asks for what is
    ``ahead`` elements further on, if that is not 0."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    block_size = streams * lanes
    vector = T.ramp(0, 1, lanes)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("read")
        T.func_attr({"tirx.noalias": True})
        data = T.arg("data", T.buffer((capacity,), "int32", align=4))
        out = T.arg("out", T.buffer((threads, lanes), "int32", align=4))
        blocks, passes = T.arg("blocks", T.int32()), T.arg("passes", T.int32())
        with T.parallel(0, threads) if threads > 1 else T.serial(0, threads) as p:
            acc = T.alloc_buffer((streams, lanes), "int32", scope="local", align=64)
            for s in range(streams):
                T.buffer_store(acc, T.broadcast(T.int32(0), lanes), [s, vector])
            with T.serial(0, passes) as turn:
                with T.serial(0, blocks) as block:
                    for s in range(0, streams if ahead else 0, max(1, _LINE // lanes)):
                        place = (p * blocks + block) * block_size + s * lanes + ahead  # it may lie past the end
                        address = T.address_of(data[place])
                        T.evaluate(T.call_llvm_intrin("void", _lookup("llvm.prefetch"), address, 0, 2, 1))
                    for s in range(streams):
                        at = (p * blocks + block) * block_size + s * lanes
                        mixed = T.bitwise_xor(acc[s, vector], data[T.ramp(at, 1, lanes)])
                        T.buffer_store(acc, mixed, [s, vector])
                for s in range(streams):  # depends on the pass, so that passes cannot be merged
                    salted = acc[s, vector] + T.broadcast(turn, lanes)
                    T.buffer_store(acc, salted, [s, vector])
            for s in range(streams):
                total = acc[s, vector] if s == 0 else out[p, vector] + acc[s, vector]
                T.buffer_store(out, total, [p, vector])
    return builder.get()


def peak_kernel(peak: Peak, lanes: int, threads: int) -> Any:
    """``(seed[2, lanes], out[threads, accumulators, lanes], steps)``: ``steps`` times one step of every accumulator."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    vector = T.ramp(0, 1, lanes)
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("peak")
        T.func_attr({"tirx.noalias": True})
        seed = T.arg("seed", T.buffer((2, lanes), peak.dtype, align=4))
        out = T.arg("out", T.buffer((threads, peak.accumulators, lanes), peak.dtype, align=4))
        steps = T.arg("steps", T.int32())
        with T.parallel(0, threads) if threads > 1 else T.serial(0, threads) as p:
            acc = T.alloc_buffer((peak.accumulators, lanes), peak.dtype, scope="local", align=64)
            for i in range(peak.accumulators):
                T.buffer_store(acc, out[p, i, vector], [i, vector])
            with T.serial(0, steps):
                for i in range(peak.accumulators):
                    a, b = seed[0, vector], seed[1, vector]
                    value = peak.step(T, acc[i, vector], a, b)
                    T.buffer_store(acc, value, [i, vector])
            for i in range(peak.accumulators):
                T.buffer_store(out, acc[i, vector], [p, i, vector])
    return builder.get()
