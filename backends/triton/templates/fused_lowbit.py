"""Products with low-bit weights whose result goes through an epilogue: a kernel for each, written when it is asked for.

As :mod:`fettle.backends.triton.templates.fused`; the product itself is :func:`~.lowbit.run`.
"""

import functools

from fettle.backends.triton.templates import lowbit
from fettle.backends.triton.templates.elementwise import kernel_of, written
from fettle.backends.triton.templates.fused import names_of
from fettle.graph.epilogues import Epilogue


def finish_source(epilogue: Epilogue) -> str:
    """The text of what is done to a tile of the result."""
    rows, others = names_of(epilogue)
    lines = ["def finish(y, others, at, mask, columns, N: tl.constexpr):\n"]
    for i, name in enumerate(rows):
        lines.append(f"    {name} = tl.load(others[{i}] + columns, mask=columns < N, other=1.0)\n")
    for i, name in enumerate(others, len(rows)):
        lines.append(f"    {name} = tl.load(others[{i}] + at, mask=mask, other=1.0).to(tl.float32)\n")
    return "".join([*lines, f"    return {written(epilogue.expression, ('y', *rows, *others))}\n"])


def source(epilogue: Epilogue) -> str:
    """The kernel's text: the arguments of the product without an epilogue, and what the epilogue reads."""
    rows, others = names_of(epilogue)
    read = [f"{name}_ptr" for name in (*rows, *others)] or ["out_ptr"]
    names = list(lowbit.matmul.arg_names)
    after = names.index("out_ptr") + 1
    given = [*names[:after], *(name for name in read if name != "out_ptr"), *names[after:]]
    declared = [name if name.endswith("_ptr") or name == "M" else f"{name}: tl.constexpr" for name in given]
    passed = [*names[:after], f"({', '.join(read)},)", *names[after:], "finish"]
    return f"def fused({', '.join(declared)}):\n    run({', '.join(passed)})\n"


@functools.cache
def __getattr__(name: str) -> object:
    if name.startswith("__") or "y" not in name:
        raise AttributeError(name)
    epilogue = Epilogue.parse(name)
    finish = kernel_of(finish_source(epilogue), f"{__file__}#{name}#finish", "finish")
    return kernel_of(source(epilogue), f"{__file__}#{name}", "fused", run=lowbit.run, finish=finish)
