"""Launches kernels of the templates in this process, on NumPy arrays. Needs ``TRITON_INTERPRET=1`` and no torch."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fettle.backends.triton.compiler import template
from fettle.backends.triton.constants import arguments
from fettle.backends.triton.plan import Launch
from fettle.graph.errors import Unsupported


def launch(one: Launch, arrays: Mapping[str, np.ndarray]) -> None:
    """Run all programs of a launch, one after another.

    Args:
        arrays: memory of each source that an argument of the launch has; written in place.

    Raises:
        Unsupported: this process was not started to interpret.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise Unsupported("this process compiles Triton kernels", hint="start it with TRITON_INTERPRET=1")
    import triton.language as tl
    from triton.runtime.interpreter import GridExecutor, TensorHandle

    importlib.import_module("fettle.backends.triton.interpreter.patches")
    function = template(one)

    class OnArrays(GridExecutor):  # type: ignore[misc]  # Triton has no types
        """The arguments are Triton's values already; nothing is copied to a host and back."""

        def _init_args_hst(self, args_dev: Any, kwargs: Any) -> tuple[Any, Any]:
            return args_dev, kwargs

        def _restore_args_dev(self, args_dev: Any, args_hst: Any, kwargs: Any, kwargs_hst: Any) -> None:
            pass

    given = arguments(function.arg_names, one.constants, lambda value: value)
    for argument in one.arguments:
        kind = tl.str_to_ty(argument.type, None)
        if argument.source:
            address = np.array([arrays[argument.source].ctypes.data], np.uint64)
            given[argument.parameter] = tl.tensor(TensorHandle(address, kind), kind)
        else:
            given[argument.parameter] = argument.value
    OnArrays(function.rewrite(), function.arg_names, one.grid)(**given)
