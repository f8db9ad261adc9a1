"""An executor without worker processes, for backends whose kernels are models: they cannot crash, and timing them
disturbs nobody. The correctness gate is the same as for kernels that run on hardware."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Candidate,
    Device,
    Measurement,
    MeasurePolicy,
)
from fettle.backends.host.building import build_here
from fettle.backends.host.executor import BuildResult, Session, TrialResult
from fettle.backends.host.operands import split_constants
from fettle.backends.host.stated import ModelExecutor, StatedSession
from fettle.backends.host.verify import GuardedOutput, check
from fettle.graph import data
from fettle.graph.workload import Workload


class InProcessExecutor(ModelExecutor):
    """Runs everything in the calling process."""

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        return InProcessSession(self._backend, self._device, workload, policy, seed)


class InProcessSession(StatedSession):
    """Operands and reference are computed once; constants are packed once per layout."""

    def __init__(self, backend: Backend, device: Device, workload: Workload, policy: MeasurePolicy, seed: int) -> None:
        self._backend = backend
        self._device = device
        self._workload = workload
        self._policy = policy
        self._operands = data.operands(workload, seed)
        self._inputs, self._constants = split_constants(workload, self._operands)
        self._reference = data.reference(workload, self._operands)
        self._output = GuardedOutput(workload.result, workload.decode)
        self._packed: dict[str, tuple[np.ndarray, ...]] = {}

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        return [build_here(self._backend, candidate) for candidate in candidates]

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        """Compute into a poisoned output, compare with the reference, and only then ask the model for its time.

        Once: a model has no scratch memory in which one run could leave something behind for the next.
        """
        begun = time.perf_counter()
        kernel = self._backend.load(artifact)
        layout = artifact.weight_layout
        if layout not in self._packed:
            self._packed[layout] = tuple(kernel.pack(self._constants))
        self._output.poison()
        kernel.run(self._inputs, self._packed[layout], self._output.array)
        verdict = check(self._output, self._reference, "run 1")
        if verdict.ok:
            measurement = self._backend.measure(kernel, self._operands, self._output.array, self._policy)
        else:
            measurement = Measurement.failure(verdict.outcome, verdict.message)
        seconds = time.perf_counter() - begun
        return TrialResult(measurement, verdict.ok, verdict.max_error, verdict.error_ratio, seconds)

    def stated(self, artifact: Artifact) -> Measurement:
        kernel = self._backend.load(artifact)
        return self._backend.measure(kernel, self._operands, self._output.array, self._policy)

    def close(self) -> None:
        self._packed.clear()
