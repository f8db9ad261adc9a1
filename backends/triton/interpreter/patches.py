"""Repairs of Triton's interpreter, by replacing methods of its builder.

Triton 3.6's interpreter keeps bf16 as raw bits and computes with these bits as integers, without a word; it cuts
numbers off that fp8 rounds to the nearest; it lacks inline assembly and scalar bf16 constants; and half its time goes
into preparing the language anew at every call. Importing this module repairs all that in this process, which must have
started with ``TRITON_INTERPRET=1``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime import interpreter

from fettle.backends.triton.interpreter import ptx
from fettle.backends.triton.interpreter.bf16 import narrow, widen

_Builder = interpreter.InterpreterBuilder
_Handle = interpreter.TensorHandle
_COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
_FP8 = {tl.float8e4nv: ml_dtypes.float8_e4m3fn, tl.float8e5: ml_dtypes.float8_e5m2}
_LARGEST = {tl.float8e4nv: 448.0, tl.float8e5: 57344.0}
_BITWISE = (np.bitwise_and, np.bitwise_or, np.bitwise_xor)

_binary_op, _unary_op = _Builder.binary_op, _Builder.unary_op
_create_dot, _cast_impl, _create_fp_to_fp = _Builder.create_dot, _Builder.cast_impl, _Builder.create_fp_to_fp
_patch_lang, _get_np_dtype = interpreter._patch_lang, interpreter._get_np_dtype


def _is_bf16(handle: Any) -> bool:
    return bool(handle.dtype.scalar == tl.bfloat16)


def _numbers(handle: Any) -> Any:
    if (fp8 := _FP8.get(handle.dtype.scalar)) is not None:
        return handle.data.view(fp8).astype(np.float32)
    return widen(handle.data) if _is_bf16(handle) else handle.data


def binary_op(self: Any, left: Any, right: Any, op: Callable[..., Any]) -> Any:
    if not _is_bf16(left) or op in _BITWISE:
        return _binary_op(self, left, right, op)
    result = op(_numbers(left), _numbers(right))
    return _Handle(result, tl.int1) if op in _COMPARISONS else _Handle(narrow(result), tl.bfloat16)


def unary_op(self: Any, argument: Any, op: Callable[..., Any]) -> Any:
    if not _is_bf16(argument):
        return _unary_op(self, argument, op)
    return _Handle(narrow(op(_numbers(argument))), tl.bfloat16)


def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
    """Products in f32 (or int32), so that sums of halves are not rounded to halves on the way."""
    wide = np.int32 if d.data.dtype == np.int32 else np.float32
    total = np.matmul(_numbers(a).astype(wide), _numbers(b).astype(wide)) + d.data
    return _Handle(total.astype(d.data.dtype), d.dtype.scalar)


def cast_impl(self: Any, source: Any, target: Any) -> Any:
    to_bf16 = target.scalar == tl.bfloat16
    if _is_bf16(source) and not to_bf16:
        return _Handle(widen(source.data).astype(interpreter._get_np_dtype(target)), target.scalar)
    if to_bf16 and not _is_bf16(source):
        return _Handle(narrow(source.data), tl.bfloat16)
    return _cast_impl(self, source, target)


def create_fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
    """To fp8 as GPUs round: to the nearest, ties to even, and no further than the largest number."""
    if (fp8 := _FP8.get(target.scalar)) is None:
        return _create_fp_to_fp(self, source, target, rounding)
    largest = _LARGEST[target.scalar]
    rounded = np.clip(_numbers(source).astype(np.float32), -largest, largest).astype(fp8)
    return _Handle(rounded.view(np.uint8), target.scalar)


def get_bf16(self: Any, value: float) -> Any:
    return _Handle(narrow(np.array([value], np.float32)), tl.bfloat16)


class _Results:
    """What the caller expects of an operation with several results."""

    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = handles

    def get_result(self, index: int) -> Any:
        return self._handles[index]


def create_inline_asm(
    self: Any, assembly: str, constraints: str, values: Sequence[Any], types: Sequence[Any], pure: bool, pack: int
) -> _Results:
    """Elementwise assembly on ``pack`` neighbouring elements at a time; the last axis is what is packed.

    Which elements a GPU packs depends on the layout; assembly whose outputs keep the places of its inputs, as ours
    does, gives the same result whichever they are.
    """
    if assembly.startswith("griddepcontrol"):  # launches follow one another here
        return _Results([_Handle(np.zeros(1, np.int32), tl.int32)])
    shape = values[0].data.shape
    registers: list[NDArray[np.uint32]] = []
    for value in values:
        data = np.ascontiguousarray(value.data)
        lanes = max(1, pack * data.dtype.itemsize // 4)
        columns = data.reshape(-1).view(np.uint32).reshape(-1, lanes)
        registers += [columns[:, i] for i in range(lanes)]
    outputs = ptx.execute(assembly, constraints.count("="), registers)
    handles, at = [], 0
    for kind in types:
        scalar = getattr(kind, "scalar", kind)
        dtype = np.dtype(interpreter._get_np_dtype(scalar))
        lanes = max(1, pack * dtype.itemsize // 4)
        joined = np.stack(outputs[at : at + lanes], axis=1).reshape(-1)
        handles.append(_Handle(joined.view(dtype).reshape(shape), scalar))
        at += lanes
    return _Results(handles)


_prepared: set[Any] = set()
"""Modules of the language whose functions compute instead of compiling."""


def patch_lang(function: Any) -> Any:
    """Prepare the modules of the language that a function sees, each once, and leave them so: nothing to undo."""
    seen = [module for module in function.__globals__.values() if module is tl or module is tl.core]
    if not _prepared.issuperset(seen):
        _patch_lang(function)
        _prepared.update(seen)
    return interpreter._LangPatchScope()


_dtypes: dict[str, np.dtype[Any]] = {}
"""By the name of a scalar type."""


def get_np_dtype(kind: Any) -> np.dtype[Any]:
    """Remembered: the original makes a table of all types at each call, which takes a twelfth of all time."""
    scalar = kind.element_ty if isinstance(kind, tl.block_type) else kind
    if scalar.name not in _dtypes:
        _dtypes[scalar.name] = _get_np_dtype(scalar)
    return _dtypes[scalar.name]


interpreter._patch_lang = patch_lang
interpreter._get_np_dtype = get_np_dtype
# no compiled kernel asks of each sum of integers whether it overflows, which takes four more operations
interpreter.interpreter_builder.options = dataclasses.replace(
    interpreter.interpreter_builder.options, sanitize_overflow=False
)
for _name in ("binary_op", "unary_op", "create_dot", "cast_impl", "create_fp_to_fp", "get_bf16", "create_inline_asm"):
    setattr(_Builder, _name, globals()[_name])
