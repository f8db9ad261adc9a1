"""Elementwise chains: a kernel for each expression, written when it is asked for.

``getattr(this_module, "silu(x0)*x1")`` is the kernel of that expression: one loads all operands, computes in f32 and
stores once. Triton compiles source text, so each kernel gets a source of its own that tracebacks and Triton can read.
"""

import functools
import linecache
from collections.abc import Sequence

import triton
import triton.language as tl

from fettle.graph.expressions import EXTREMES, Expression

_HEADER = """def chain({pointers}, out_ptr, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < COUNT
"""


@triton.jit
def relu(x):
    return tl.maximum(x, 0.0)


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def sigmoid(x):
    """By way of exp(-|x|), which does not overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def silu(x):
    return x * sigmoid(x)


@triton.jit
def tanh(x):
    """``(1 - e) / (1 + e)`` with e = exp(-2|x|); near zero, where that cancels, its series (next term 62x⁹/2835)."""
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    s = x * x
    near = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 - s * (17.0 / 315.0))))
    return tl.where(tl.abs(x) < 0.1, near, tl.where(x < 0.0, -far, far))


@triton.jit
def erf(x):
    return tl.erf(x)


@triton.jit
def round(x):
    """To the nearest whole number: float32 holds whole numbers alone from 2^23 on."""
    size = tl.abs(x)
    near = (size + 8388608.0) - 8388608.0
    return tl.where(size < 8388608.0, tl.where(x < 0.0, -near, near), x)


def source(expression: Expression) -> str:
    """The kernel's text."""
    names = [f"x{i}" for i in range(expression.arity)]
    lines = [_HEADER.format(pointers=", ".join(f"{name}_ptr" for name in names))]
    lines += [f"    {name} = tl.load({name}_ptr + at, mask=mask, other=1.0).to(tl.float32)\n" for name in names]
    result = written(expression, names)
    return "".join(
        [*lines, f"    y = {result}\n", "    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask)\n"]
    )


def written(expression: Expression, names: Sequence[str]) -> str:
    """The expression in Triton's language, of variables with these names."""

    def apply(operation: str, *arguments: str) -> str:
        if operation == "neg":
            return f"(-{arguments[0]})"
        if operation == "abs":
            return f"tl.abs({arguments[0]})"
        if operation in EXTREMES:
            return f"tl.{operation}imum({', '.join(arguments)})"
        if len(arguments) == 1:
            return f"{operation}({arguments[0]})"
        return f"({arguments[0]} {operation} {arguments[1]})"

    return str(expression.fold(lambda i: names[i], repr, apply))


def kernel_of(text: str, file: str, entry: str, **functions: object) -> object:
    """The kernel ``entry`` of a text, which may call functions of expressions and those given."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    known = {
        "tl": tl,
        "relu": relu,
        "exp": exp,
        "sigmoid": sigmoid,
        "silu": silu,
        "tanh": tanh,
        "erf": erf,
        "round": round,
    }
    names = {**known, **functions, "__name__": __name__}
    exec(compile(text, file, "exec"), names)
    return triton.jit(names[entry])


@functools.cache
def __getattr__(name: str) -> object:
    if name.startswith("__") or "x0" not in name:
        raise AttributeError(name)
    return kernel_of(source(Expression.parse(name)), f"{__file__}#{name}", "chain")
