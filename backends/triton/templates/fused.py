"""Dense products whose result goes through an epilogue: a kernel for each, written when it is asked for.

``getattr(this_module, "relu(y+b0)+x0")`` is that of an epilogue (:mod:`fettle.graph.epilogues`), which is applied in
f32 before the one store.
"""

import functools

from fettle.backends.triton.templates.dense import product
from fettle.backends.triton.templates.elementwise import kernel_of, written
from fettle.graph.epilogues import Epilogue

_HEADER = """def fused(x_ptr, w_ptr, {pointers}out_ptr, M, N: tl.constexpr, K: tl.constexpr, W_BATCH: tl.constexpr,
          W_K: tl.constexpr, W_N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
          PARTS: tl.constexpr, BAND: tl.constexpr):
    y, at, mask, rn = product(x_ptr, w_ptr, M, N, K, W_BATCH, W_K, W_N, BM, BN, BK, PARTS, BAND)
"""


def source(epilogue: Epilogue) -> str:
    """The kernel's text."""
    rows, others = names_of(epilogue)
    lines = [_HEADER.format(pointers="".join(f"{name}_ptr, " for name in (*rows, *others)))]
    lines += [f"    {name} = tl.load({name}_ptr + rn, mask=rn < N, other=1.0)[None, :]\n" for name in rows]
    lines += [f"    {name} = tl.load({name}_ptr + at, mask=mask, other=1.0).to(tl.float32)\n" for name in others]
    result = written(epilogue.expression, ("y", *rows, *others))
    return "".join([*lines, f"    tl.store(out_ptr + at, {result}.to(out_ptr.dtype.element_ty), mask)\n"])


def names_of(epilogue: Epilogue) -> tuple[list[str], list[str]]:
    """Its rows and its operands of the result's shape; arguments have these names with ``_ptr``."""
    return [f"b{i}" for i in range(epilogue.rows)], [f"d{i}" for i in range(epilogue.operands)]


@functools.cache
def __getattr__(name: str) -> object:
    if name.startswith("__") or "y" not in name:
        raise AttributeError(name)
    return kernel_of(source(Epilogue.parse(name)), f"{__file__}#{name}", "fused", product=product)
