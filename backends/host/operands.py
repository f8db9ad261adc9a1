"""A session's operands and reference in shared memory: written once by the host, mapped read-only by workers.

The memory is an anonymous file (memfd) that exists only as long as somebody holds it: nothing is left behind,
however the host dies. It is sealed once written, so not even a worker with a stray pointer can change it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Sequence

import attrs
import numpy as np

from fettle.graph import data
from fettle.graph.formats import Format
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_ALIGNMENT = 64
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@attrs.frozen
class ArrayPlace:
    """Where one array lies: C-contiguous from byte ``offset``, multiples of 64."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


@attrs.frozen
class OperandPlace:
    """One operand: an array, or those of a quantised weight that its format has, which is then given."""

    arrays: tuple[ArrayPlace, ...]
    format: str = ""


@attrs.frozen
class Manifest:
    """What a shared memory contains. ``size`` in bytes."""

    operands: tuple[OperandPlace, ...]
    expected: ArrayPlace
    tolerance: ArrayPlace
    size: int


def dtype_named(name: str) -> np.dtype[np.generic]:
    """The NumPy type of that name, those of ml_dtypes included."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return dtype


class SharedOperands:
    """The host's end. ``descriptor`` is sent to workers along with ``manifest``."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self.descriptor = os.memfd_create("fettle-operands", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self._size = 0
            operands = data.operands(workload, seed)
            places = tuple(self._write_operand(operand) for operand in operands)
            reference = data.reference(workload, operands)
            expected = self._write(reference.expected)
            tolerance = self._write(reference.tolerance)
            os.ftruncate(self.descriptor, self._size)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            self.close()
            raise
        self.manifest = Manifest(places, expected, tolerance, self._size)

    def close(self) -> None:
        """Let go of the memory; workers that mapped it keep it until they unmap. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write_operand(self, operand: Operand) -> OperandPlace:
        if not isinstance(operand, QuantizedWeight):
            return OperandPlace((self._write(operand),))
        arrays = (operand.codes, operand.scales, operand.zero_points, operand.tensor_scale)
        return OperandPlace(tuple(self._write(a) for a in arrays if a is not None), str(operand.format))

    def _write(self, array: np.ndarray) -> ArrayPlace:
        contiguous = np.ascontiguousarray(array)
        place = ArrayPlace(contiguous.dtype.name, tuple(array.shape), self._size)
        rest = memoryview(contiguous.reshape(-1).view(np.uint8).data)
        offset = self._size
        while rest:  # one write takes at most 2 GiB
            written = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written
        self._size = -(-offset // _ALIGNMENT) * _ALIGNMENT
        return place


class MappedOperands:
    """A worker's end: views of the shared memory, without a copy. Writing to them is a segmentation fault."""

    def __init__(self, descriptor: int, manifest: Manifest) -> None:
        self._memory = mmap.mmap(descriptor, manifest.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self.operands: tuple[Operand, ...] = tuple(self._operand(place) for place in manifest.operands)
        self.reference = Reference(self._array(manifest.expected), self._array(manifest.tolerance))

    def _operand(self, place: OperandPlace) -> Operand:
        arrays = [self._array(array) for array in place.arrays]
        if not place.format:
            return arrays[0]
        fmt = Format.parse(place.format)
        codes, scales, *rest = arrays  # no format has both zero points and a scale of the tensor
        name = "tensor_scale" if fmt.has_tensor_scale else "zero_points"
        return QuantizedWeight(fmt, codes, scales, **dict(zip([name], rest, strict=False)))

    def _array(self, place: ArrayPlace) -> np.ndarray:
        dtype = dtype_named(place.dtype)
        count = int(np.prod(place.shape, dtype=np.int64))
        return np.frombuffer(self._memory, dtype, count, place.offset).reshape(place.shape)


def split_constants(workload: Workload, operands: Sequence[Operand]) -> tuple[list[np.ndarray], list[Operand]]:
    """(operands given at every call, operands packed once), each in the workload's order."""
    inputs: list[np.ndarray] = []
    constants: list[Operand] = []
    for tensor, operand in zip(workload.operands, operands, strict=True):
        if tensor.constant:
            constants.append(operand)
        else:
            inputs.append(np.asarray(operand))
    return inputs, constants
