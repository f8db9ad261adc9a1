"""A program in a GPU's memory, with its operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fettle.backends.api import Schedule
from fettle.backends.triton.family import Family
from fettle.backends.triton.gpu.driver import Address, Driver, LaunchConfig
from fettle.backends.triton.plan import Argument
from fettle.backends.triton.program import Program
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_SCRATCH_POINTERS = 2
"""Triton's kernels end in a pointer to global and one to profile scratch memory, both null here."""


class LoadedProgram:
    """The functions of a program. Raises Unsupported if it has no machine code that can be launched alone."""

    def __init__(self, driver: Driver, program: Program) -> None:
        self._driver = driver
        self._program = program
        self._calls: list[tuple[Any, LaunchConfig, tuple[Argument, ...]]] = []
        for kernel in program.kernels:
            launch, compiled = kernel.launch, kernel.compiled
            if compiled is None or compiled.scratch:
                raise Unsupported(
                    f"{launch.template} has no machine code that can be launched alone",
                    hint="tune the workload again",
                )
            config = LaunchConfig(launch.grid, compiled.threads, compiled.shared, launch.dependent)
            self._calls.append((driver.load(compiled.code, compiled.name, compiled.shared), config, launch.arguments))

    def enqueue(self, memory: Mapping[str, Address]) -> None:
        """All launches of one call, in order, scratch zeroed first where it must be.

        Args:
            memory: addresses by the plan's names of sources.
        """
        for scratch in self._program.scratch:
            if scratch.zeroed:
                self._driver.fill(memory[f"scratch:{scratch.name}"], scratch.nbytes, 0)
        for function, config, arguments in self._calls:
            values = [memory[a.source] if a.source else a.value for a in arguments]
            self._driver.launch(function, config, [*values, *[Address(0)] * _SCRATCH_POINTERS])


class GpuKernel:
    """A loaded program. See :class:`fettle.backends.api.LoadedKernel`; ``run`` copies to the GPU and back."""

    def __init__(
        self, driver: Driver, program: Program, family: Family, workload: Workload, schedule: Schedule
    ) -> None:
        self.driver = driver
        self.workload = workload
        self._program = program
        self._family = family
        self._schedule = schedule
        self._loaded = LoadedProgram(driver, program)

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        return self._family.pack(self.workload, self._schedule, constants)

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        with Buffers(self.driver) as buffers:
            memory = self.place(buffers, inputs, packed, out)
            self.enqueue(memory)
            self.driver.download(memory["out"], out)

    def place(
        self, buffers: Buffers, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray
    ) -> dict[str, Address]:
        """Operands, the result as it is now, and scratch in device memory, by the plan's names of sources."""
        memory = {f"input:{i}": buffers.copy(array) for i, array in enumerate(inputs)}
        memory |= {f"packed:{i}": buffers.copy(array) for i, array in enumerate(packed)}
        for scratch in self._program.scratch:
            memory[f"scratch:{scratch.name}"] = address = buffers.reserve(scratch.nbytes)
            if scratch.kept:
                self.driver.fill(address, scratch.nbytes, 0)
        memory["out"] = buffers.copy(out)
        return memory

    def enqueue(self, memory: Mapping[str, Address]) -> None:
        """One call on memory that :meth:`place` gave."""
        self._loaded.enqueue(memory)


class Buffers:
    """Device memory that is freed together."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._held: list[Address] = []

    def reserve(self, size: int) -> Address:
        """Memory with anything in it."""
        self._held.append(self._driver.allocate(size))
        return self._held[-1]

    def copy(self, array: np.ndarray) -> Address:
        """Memory with an array in it."""
        address = self.reserve(array.nbytes)
        self._driver.upload(address, array)
        return address

    def __enter__(self) -> Buffers:
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._driver.free(self._held.pop())
