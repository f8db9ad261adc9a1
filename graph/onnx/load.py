"""Reading model files that may be hostile: size limits, and external data only from the model's own folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from fettle.graph.errors import InvalidGraph, NotFound, ResourceExhausted
from fettle.graph.onnx.protos import tensors

MAX_MODEL_BYTES = 2**31 - 1
"""Largest protobuf message; bigger models keep their weights as external data."""


def load(source: str | os.PathLike[str] | bytes) -> tuple[ModelProto, Path | None]:
    """The model and the folder its external data may come from (None for bytes).

    External tensors are checked but not read; see :func:`read_external`.

    Raises:
        NotFound: no such file.
        ResourceExhausted: larger than protobuf allows.
        InvalidGraph: not an ONNX model, or external data outside the model's folder.
    """
    if isinstance(source, bytes):
        content, folder = source, None
    else:
        if not isinstance(source, str | os.PathLike):  # Python callers pass anything
            raise InvalidGraph(f"a model is a path or bytes, not {type(source).__name__}")
        path = Path(source)
        if not path.exists():
            raise NotFound(f"no model file {str(path)!r}")
        if not path.is_file():
            raise InvalidGraph(f"{str(path)!r} is not a file")
        _check_size(path.stat().st_size)
        content, folder = path.read_bytes(), path.resolve().parent
    _check_size(len(content))
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise InvalidGraph(f"not an ONNX model: {error}") from None
    if not model.HasField("graph"):
        raise InvalidGraph("not an ONNX model: it has no graph")
    _check_text(model)
    for tensor in tensors(model):
        if uses_external_data(tensor):
            external_file(tensor, folder)
    return model, folder


def _check_text(message: Message) -> None:
    """ONNX is proto2: the parser lets any bytes pass as text, and reading them gives ``bytes``."""
    for field, value in message.ListFields():
        if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
            continue
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                _check_text(item)
            elif isinstance(item, bytes):
                raise InvalidGraph(f"not an ONNX model: {field.full_name} is not UTF-8 text: {item[:64]!r}")


def _check_size(size: int) -> None:
    if size > MAX_MODEL_BYTES:
        raise ResourceExhausted(
            f"model of {size} bytes; at most {MAX_MODEL_BYTES} are allowed", hint="store the weights as external data"
        )


def external_file(tensor: TensorProto, folder: Path | None) -> Path:
    """The file that holds an external tensor, proven to lie in the model's folder; nothing is read.

    Raises:
        InvalidGraph: there is no folder, the path is absolute, climbs with ``..``, passes a symbolic link, or
            names no file.
    """
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")

    def refuse(why: str) -> InvalidGraph:
        return InvalidGraph(
            f"external data of tensor {tensor.name!r} {why}: {location[:200]!r}", details={"tensor": tensor.name}
        )

    if folder is None:
        raise refuse("cannot be used by a model that is given as bytes")
    path = PurePosixPath(location)
    if path.is_absolute() or PureWindowsPath(location).drive or "\\" in location:
        raise refuse("has an absolute path")
    if ".." in path.parts:
        raise refuse("leaves the model's folder")
    step = folder
    for part in path.parts:
        step = step / part
        if step.is_symlink():
            raise refuse("passes a symbolic link")
    if "\0" in location or not step.is_file():
        raise refuse("names no file")
    return step


def read_external(tensor: TensorProto, folder: Path | None) -> None:
    """Load an external tensor's bytes into the message, in place.

    Raises:
        InvalidGraph: see :func:`external_file`; or the file is shorter than the tensor says.
    """
    external_file(tensor, folder)
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except (ValueError, OSError, onnx.checker.ValidationError) as error:
        raise InvalidGraph(f"external data of tensor {tensor.name!r}: {error}") from None
