"""A loaded kernel that can be called on NumPy arrays."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import attrs
import numpy as np

from fettle.backends.api import Artifact, Device, LoadedKernel, PreparableKernel, Schedule
from fettle.graph.errors import InvalidArgument
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.tensors import TensorSpec
from fettle.graph.workload import Workload
from fettle.packing import Packed, pack_once
from fettle.store.kernels import Kernel as StoredKernel
from fettle.store.lookup import Miss


class BoundKernel(Protocol):
    """A kernel with its constants packed."""

    def __call__(self, inputs: Sequence[np.ndarray], out: np.ndarray | None = None) -> np.ndarray:
        """Compute the result, into ``out`` if given."""
        ...


class PreparedCall:
    """``kernel(*operands, out=out)`` with everything done that can be done once; call it without arguments.

    Attributes:
        out: where each call leaves the result.
    """

    __slots__ = ("_run", "out")

    def __init__(self, run: Callable[[], object], out: np.ndarray) -> None:
        self._run = run
        self.out = out

    def __call__(self) -> np.ndarray:
        """Compute the result into :attr:`out`, from what the operands' arrays hold now."""
        self._run()
        return self.out


class Kernel:
    """One workload's kernel, callable as ``y = kernel(x, weight)`` with operands in the workload's order.

    Arrays may have any alignment and are never copied; they must be C-contiguous and of the exact shape and
    type. Constant operands (weights) are packed into the kernel's layout when first seen and remembered for
    as long as the caller keeps them; do not change them in place. Kernels for other numbers of rows that have the same
    layout share the packed copy. :meth:`bind` packs them explicitly. A call checks its arrays, which takes
    microseconds; :meth:`prepare` does that once for arrays that are used again and again.

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
        self._inputs = tuple(_Expected.of(tensor) for tensor in workload.operands if not tensor.constant)
        self._result = _Expected.of(workload.result)
        self._packed: dict[tuple[int, ...], tuple[Packed, list[weakref.ref[Operand]]]] = {}

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
        inputs, packed = self._sorted(operands)
        return self._run(inputs, packed, out)

    def prepare(self, *operands: Operand, out: np.ndarray | None = None) -> PreparedCall:
        """The same call made ready: what the function returned costs besides the kernel is about half a microsecond.

        The arrays are used where they lie, so change them in place between calls; they are kept alive.

        Raises:
            InvalidArgument: as a call.
        """
        inputs, packed = self._sorted(operands)
        arrays, out = self._checked(inputs, out)
        if isinstance(self._loaded, PreparableKernel):
            return PreparedCall(self._loaded.prepare(arrays, packed, out), out)
        return PreparedCall(partial(self._loaded.run, arrays, packed, out), out)

    def bind(self, constants: Sequence[Operand]) -> BoundKernel:
        """Pack the constants once; the function returned takes the other operands, and a result array if wanted.

        Raises:
            InvalidArgument: wrong number, shape or type of constants.
        """
        packed = self._pack(constants)
        return lambda inputs, out=None: self._run(inputs, packed.arrays, out)

    def packed_bytes(self, constants: Sequence[Operand]) -> int:
        """Bytes that the constants take in the kernel's layout, which they are packed into if they were not before.

        Raises:
            InvalidArgument: as :meth:`bind`.
        """
        return sum(array.nbytes for array in self._remember(constants))

    def _sorted(self, operands: Sequence[Operand]) -> tuple[list[Operand], tuple[np.ndarray, ...]]:
        """Inputs, and packed constants."""
        if len(operands) != len(self._operands):
            names = ", ".join(t.name for t in self._operands)
            raise InvalidArgument(
                f"{self.workload} takes {len(self._operands)} operands ({names}), got {len(operands)}"
            )
        pairs = list(zip(self._operands, operands, strict=True))
        constants = [value for tensor, value in pairs if tensor.constant]
        return [value for tensor, value in pairs if not tensor.constant], self._remember(constants)

    def _remember(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        key = tuple(id(c) for c in constants)
        found = self._packed.get(key)
        if found is not None:
            return found[0].arrays
        packed = self._pack(constants)
        forget = [weakref.ref(c, lambda _, k=key: self._packed.pop(k, None)) for c in constants]  # type: ignore[misc]
        self._packed[key] = (packed, forget)
        return packed.arrays

    def _pack(self, constants: Sequence[Operand]) -> Packed:
        expected = [t for t in self._operands if t.constant]
        if not isinstance(constants, Sequence):
            raise InvalidArgument(
                f"constant operands are a list, not {type(constants).__name__}", hint="write [weight]"
            )
        if len(constants) != len(expected):
            raise InvalidArgument(f"{self.workload} has {len(expected)} constant operands, got {len(constants)}")
        for tensor, value in zip(expected, constants, strict=True):
            _check_constant(tensor, value)
        layout = self.artifact.weight_layout
        return pack_once(self.workload, self.device, layout, constants, self._loaded.pack)

    def _run(self, inputs: Sequence[Operand], packed: Sequence[np.ndarray], out: np.ndarray | None) -> np.ndarray:
        arrays, out = self._checked(inputs, out)
        self._loaded.run(arrays, packed, out)
        return out

    def _checked(self, inputs: Sequence[Operand], out: np.ndarray | None) -> tuple[list[np.ndarray], np.ndarray]:
        arrays = [expected.check(value) for expected, value in zip(self._inputs, inputs, strict=True)]
        if out is None:
            return arrays, np.empty(self._result.shape, self._result.dtype)
        self._result.check(out)
        if not out.flags.writeable:
            raise InvalidArgument("out is read-only")
        for expected, array in zip(self._inputs, arrays, strict=True):
            if np.may_share_memory(out, array):  # kernels write results before they have read all of an operand
                raise InvalidArgument(f"out shares memory with operand {expected.name}", hint="pass another array")
        return arrays, out


@attrs.frozen
class _Expected:
    """What an array must be: a :class:`TensorSpec` whose NumPy type is worked out once, not at each call."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, tensor: TensorSpec) -> _Expected:
        return cls(tensor.name, tensor.shape, tensor.format.dtype)

    def check(self, value: Operand) -> np.ndarray:
        """The array itself. Raises InvalidArgument if it is another."""
        if not isinstance(value, np.ndarray):
            raise InvalidArgument(f"operand {self.name} must be a NumPy array, not {type(value).__name__}")
        if value.shape != self.shape or value.dtype != self.dtype:
            raise InvalidArgument(
                f"operand {self.name} must be {self.dtype} {self.shape}, not {value.dtype} {value.shape}"
            )
        if not value.flags.c_contiguous:
            raise InvalidArgument(f"operand {self.name} is not C-contiguous", hint="pass np.ascontiguousarray(...)")
        return value


def _check_constant(tensor: TensorSpec, value: Operand) -> None:
    if not tensor.format.is_quantised:
        _Expected.of(tensor).check(value)
    elif not isinstance(value, QuantizedWeight) or value.format != tensor.format or value.shape != tensor.shape:
        got = f"{value.format} {value.shape}" if isinstance(value, QuantizedWeight) else type(value).__name__
        raise InvalidArgument(
            f"operand {tensor.name} must be a QuantizedWeight {tensor.format} {tensor.shape}, not {got}"
        )
