"""A loaded kernel that can be called on NumPy arrays."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fettle.backends.api import Artifact, Device, LoadedKernel, Schedule
from fettle.graph.errors import InvalidArgument
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.tensors import TensorSpec
from fettle.graph.workload import Workload
from fettle.store.lookup import Miss
from fettle.store.values import Kernel as StoredKernel


class BoundKernel(Protocol):
    """A kernel with its constants packed."""

    def __call__(self, inputs: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        """Compute the result, into ``out`` if given."""
        ...


class Kernel:
    """One workload's kernel, callable as ``y = kernel(x, weight)`` with operands in the workload's order.

    Arrays may have any alignment and are never copied; they must be C-contiguous and of the exact shape and
    type. Constant operands (weights) are packed into the kernel's layout when first seen and remembered for
    as long as the caller keeps them; do not change them in place. :meth:`bind` packs them explicitly.

    Attributes:
        match: ``exact`` (from the cache) or ``default`` (the untuned schedule, built now).
        stored: times and provenance, if it came from the cache.
        misses: why the cache had no exact match, field by field.
    """

    def __init__(
        self,
        workload: Workload,
        device: Device,
        artifact: Artifact,
        loaded: LoadedKernel,
        *,
        match: str,
        stored: StoredKernel | None = None,
        misses: Sequence[Miss] = (),
    ) -> None:
        self.workload = workload
        self.device = device
        self.artifact = artifact
        self.match = match
        self.stored = stored
        self.misses = tuple(misses)
        self._loaded = loaded
        self._operands = workload.operands
        self._result = workload.result
        self._packed: dict[tuple[int, ...], tuple[tuple[np.ndarray, ...], list[weakref.ref[Operand]]]] = {}

    @property
    def schedule(self) -> Schedule:
        """The schedule it was built with."""
        return self.artifact.schedule

    def __repr__(self) -> str:
        return f"<fettle.Kernel {self.workload} on {self.device}, {self.match}: {self.schedule}>"

    def __call__(self, *operands: Operand, out: np.ndarray | None = None) -> np.ndarray:
        """Compute the result, into ``out`` if given.

        Raises:
            InvalidArgument: wrong number, shape, type or memory order of operands or ``out``, or ``out`` shares
                memory with an operand.
        """
        if len(operands) != len(self._operands):
            names = ", ".join(t.name for t in self._operands)
            raise InvalidArgument(
                f"{self.workload} takes {len(self._operands)} operands ({names}), got {len(operands)}"
            )
        pairs = list(zip(self._operands, operands, strict=True))
        constants = [value for tensor, value in pairs if tensor.constant]
        inputs = [value for tensor, value in pairs if not tensor.constant]
        return self._run(inputs, self._remember(constants), out)

    def bind(self, constants: Sequence[Operand]) -> BoundKernel:
        """Pack the constants once; the function returned takes the other operands, and a result array if wanted.

        Raises:
            InvalidArgument: wrong number, shape or type of constants.
        """
        packed = self._pack(constants)
        return lambda inputs, out=None: self._run(inputs, packed, out)

    def _remember(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        key = tuple(id(c) for c in constants)
        found = self._packed.get(key)
        if found is not None:
            return found[0]
        packed = self._pack(constants)
        if constants:
            forget = [weakref.ref(c, lambda _, k=key: self._packed.pop(k, None)) for c in constants]  # type: ignore[misc]
            self._packed[key] = (packed, forget)
        return packed

    def _pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        expected = [t for t in self._operands if t.constant]
        if len(constants) != len(expected):
            raise InvalidArgument(f"{self.workload} has {len(expected)} constant operands, got {len(constants)}")
        for tensor, value in zip(expected, constants, strict=True):
            _check_constant(tensor, value)
        return self._loaded.pack(constants)

    def _run(self, inputs: Sequence[Operand], packed: Sequence[np.ndarray], out: np.ndarray | None) -> np.ndarray:
        arrays = []
        for tensor, value in zip((t for t in self._operands if not t.constant), inputs, strict=True):
            if not isinstance(value, np.ndarray):
                raise InvalidArgument(f"operand {tensor.name} must be a NumPy array, not {type(value).__name__}")
            _check_array(tensor, value)
            arrays.append(value)
        if out is None:
            out = np.empty(self._result.shape, self._result.format.dtype)
        else:
            _check_array(self._result, out)
            if not out.flags.writeable:
                raise InvalidArgument("out is read-only")
            for tensor, array in zip((t for t in self._operands if not t.constant), arrays, strict=True):
                if np.may_share_memory(out, array):  # kernels write results before they have read all of an operand
                    raise InvalidArgument(f"out shares memory with operand {tensor.name}", hint="pass another array")
        self._loaded.run(arrays, packed, out)
        return out


def _check_array(tensor: TensorSpec, value: np.ndarray) -> None:
    if value.shape != tensor.shape or value.dtype != tensor.format.dtype:
        raise InvalidArgument(
            f"operand {tensor.name} must be {tensor.format.dtype} {tensor.shape}, not {value.dtype} {value.shape}"
        )
    if not value.flags.c_contiguous:
        raise InvalidArgument(f"operand {tensor.name} is not C-contiguous", hint="pass np.ascontiguousarray(...)")


def _check_constant(tensor: TensorSpec, value: Operand) -> None:
    if not tensor.format.is_quantised:
        if not isinstance(value, np.ndarray):
            raise InvalidArgument(f"operand {tensor.name} must be a NumPy array, not {type(value).__name__}")
        _check_array(tensor, value)
    elif not isinstance(value, QuantizedWeight) or value.format != tensor.format or value.shape != tensor.shape:
        got = f"{value.format} {value.shape}" if isinstance(value, QuantizedWeight) else type(value).__name__
        raise InvalidArgument(
            f"operand {tensor.name} must be a QuantizedWeight {tensor.format} {tensor.shape}, not {got}"
        )
