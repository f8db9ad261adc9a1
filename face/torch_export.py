"""``fettle.from_torch``: a PyTorch module as the ONNX model that everything else here reads."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fettle.graph.errors import InvalidArgument, InvalidGraph, Unavailable, Unsupported
from fettle.torch_operators import translations

if TYPE_CHECKING:
    import torch

_OPSET = 23
"""The first one with Attention and RMSNormalization: older ones take them apart, and fettle would tune the pieces."""


def from_torch(
    program: torch.nn.Module | torch.export.ExportedProgram,
    inputs: Sequence[Any],
    path: str | os.PathLike[str],
    *,
    named_inputs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Path:
    """Write a PyTorch program as an ONNX model, for ``fettle.tune``, ``fettle run`` and the rest.

    PyTorch's own exporter does the work (``torch.export``, then ``torch.onnx``), in ONNX's opset 23, so that
    ``scaled_dot_product_attention`` and ``nn.RMSNorm`` stay whole. Weights beyond 2 GiB go to a file beside the model.

    Args:
        program: a module, in the mode it is to run in (``module.eval()``), or what ``torch.export.export`` gave.
        inputs: example inputs, by position; of an exported program, none are needed: ``()``.
        path: where the model goes; must end in ``.onnx``. A file of that name is replaced.
        named_inputs: further inputs, by name.
        dynamic_shapes: as of ``torch.export.export``: which dimensions vary. Their names are those of ``--dim``.

    Returns:
        The path, for ``fettle.tune(fettle.from_torch(…))``.

    Raises:
        InvalidArgument: the path does not end in ``.onnx``, the program is none, or the inputs are no sequence.
        Unsupported: torch or onnxscript is not installed.
        InvalidGraph: PyTorch cannot export the program: what it computes depends on values, or an operator is unknown.
        Unavailable: the file cannot be written.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise InvalidArgument(f"{str(target)!r} does not end in .onnx", hint="the suffix tells fettle what a file is")
    torch = _torch()
    if not isinstance(program, torch.nn.Module | torch.export.ExportedProgram):
        raise InvalidArgument(f"a {type(program).__name__} is neither a torch.nn.Module nor an ExportedProgram")
    if not isinstance(inputs, Sequence):
        raise InvalidArgument(f"inputs are a {type(inputs).__name__}, not a sequence", hint="write (x,) for one input")
    try:
        with _quiet(), torch.no_grad():  # a module that learns is traced through other operators
            exported = torch.onnx.export(
                program,
                tuple(inputs),
                kwargs=dict(named_inputs or {}),
                dynamic_shapes=dynamic_shapes,
                opset_version=_OPSET,
                custom_translation_table=translations(torch),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter runs the program: anything may come
        raise InvalidGraph(
            f"PyTorch cannot export the program: {_first_line(error)}",
            hint="torch.export.export(module, inputs, strict=False) says more",
        ) from error
    try:
        exported.save(target)
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror}") from error
    return target


def _torch() -> Any:
    """The torch module. Raises Unsupported if it, or what its exporter needs, is not installed."""
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("torch")
    except ImportError as error:
        raise Unsupported(
            f"reading PyTorch programs needs torch and onnxscript: {error}", hint="pip install 'fettle-tuner[torch]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages it could use and on its own code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _first_line(error: BaseException) -> str:
    """What went wrong at the bottom: the exporter wraps errors in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
