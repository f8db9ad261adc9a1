"""What a measuring worker does: loads kernels, proves them right, times them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs
import numpy as np

from fettle.backends.api import Artifact, Backend, Basis, LoadedKernel, Measurement, MeasurePolicy, Outcome
from fettle.backends.host.operands import Manifest, MappedOperands, split_constants
from fettle.backends.host.packing import Packed, PackedConstants, PackedOnce
from fettle.backends.host.protected import protected
from fettle.backends.host.protocol import Evaluated
from fettle.backends.host.verify import GuardedOutput, Verdict, check, verify
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

HOPELESS = 2.0
"""Times the fastest kernel of its session: one that takes longer is no winner, and one sample says how slow it is."""


@attrs.frozen(eq=False)
class OpenSession:
    """One workload's data in this process. ``output`` is shared by its kernels: one runs at a time."""

    number: int
    operands: tuple[Operand, ...]
    inputs: tuple[np.ndarray, ...]
    constants: tuple[Operand, ...]
    reference: Reference
    output: GuardedOutput

    @classmethod
    def map(cls, number: int, workload: Workload, descriptor: int, manifest: Manifest) -> OpenSession:
        """Map the shared memory behind a descriptor."""
        mapped = MappedOperands(descriptor, manifest)
        operands = tuple(
            operand if tensor.constant else protected(np.asarray(operand))  # constants are packed, then protected
            for tensor, operand in zip(workload.operands, mapped.operands, strict=True)
        )
        inputs, constants = split_constants(workload, operands)
        output = GuardedOutput(workload.result, workload.decode)
        return cls(number, operands, tuple(inputs), tuple(constants), mapped.reference, output)


@attrs.frozen(eq=False)
class VerifiedKernel:
    """A loaded kernel that passed the gate."""

    session: OpenSession
    kernel: LoadedKernel
    verdict: Verdict


class Evaluator:
    """The state of a measuring worker. Nothing here raises because of a kernel: failures are typed replies."""

    def __init__(self, backend: Backend, packed_budget: int) -> None:
        self._backend = backend
        self._sessions: dict[int, OpenSession] = {}
        self._packed = PackedConstants(packed_budget)
        self._loaded: dict[int, VerifiedKernel] = {}
        self._fastest: dict[int, float] = {}

    def open(self, number: int, workload: Workload, descriptor: int, manifest: Manifest) -> None:
        """Map a session's operands."""
        self._sessions[number] = OpenSession.map(number, workload, descriptor, manifest)

    def close(self, number: int) -> None:
        """Unmap a session's operands and forget what was packed from them."""
        self._loaded.clear()
        self._packed.drop(lambda key: isinstance(key, tuple) and key[0] == number)
        self._sessions.pop(number, None)
        self._fastest.pop(number, None)

    def evaluate(self, session: int, artifact: Artifact, policy: MeasurePolicy) -> Evaluated:
        """Load, verify, measure, and look at the result once more.

        A kernel that is :data:`HOPELESS` beside the fastest of its session, and longer than a sample must be, is
        sampled once: bad schedules would otherwise take most of a search's time.
        """
        kernel = self._prepare(self._sessions[session], artifact)
        if not isinstance(kernel, VerifiedKernel):
            return kernel
        fastest = self._fastest.get(session, math.inf)
        evaluated = self._measure(kernel, policy, hopeless=HOPELESS * fastest)
        if evaluated.measurement.ok and evaluated.measurement.basis is Basis.MEASURED:
            self._fastest[session] = min(fastest, evaluated.measurement.median)
        return evaluated

    def load(self, session: int, slot: int, artifact: Artifact) -> Evaluated:
        """Load and verify, for :meth:`sample`."""
        kernel = self._prepare(self._sessions[session], artifact)
        if not isinstance(kernel, VerifiedKernel):
            return kernel
        self._loaded[slot] = kernel
        return _evaluated(Measurement(Outcome.OK), kernel.verdict)

    def sample(self, slot: int, policy: MeasurePolicy) -> Evaluated:
        """Measure a loaded kernel."""
        return self._measure(self._loaded[slot], policy)

    def unload(self) -> None:
        """Forget loaded kernels."""
        self._loaded.clear()

    def _prepare(self, session: OpenSession, artifact: Artifact) -> VerifiedKernel | Evaluated:
        try:
            loaded = self._backend.load(artifact)
            kernel = PackedOnce(loaded, self._packer(session, artifact, loaded))
            packed = kernel.pack(session.constants)
        except Exception as error:
            return _failed(Outcome.RUN_ERROR, f"loading raised {type(error).__name__}: {error}")
        verdict = verify(kernel, session.inputs, packed, session.output, session.reference)
        if not verdict.ok:
            return _evaluated(Measurement.failure(verdict.outcome, verdict.message), verdict)
        return VerifiedKernel(session, kernel, verdict)

    def _measure(self, verified: VerifiedKernel, policy: MeasurePolicy, hopeless: float = math.inf) -> Evaluated:
        """Measure; once only what takes longer than ``hopeless`` seconds, and than a sample."""
        session, verdict = verified.session, verified.verdict
        session.output.poison()
        output = session.output.array
        try:
            # one run first, so that the output is right even if the backend times without computing (simulators)
            packed = verified.kernel.pack(session.constants)
            started = time.perf_counter()
            verified.kernel.run(session.inputs, packed, output)
            taken = time.perf_counter() - started
            measure = partial(self._timed, verified, output)
            limit = max(hopeless, policy.min_sample)
            once = taken > limit
            measurement = measure(attrs.evolve(policy, warmup=0, samples=1) if once else policy)
            if once and measurement.ok and measurement.median <= limit:  # something else held that run up
                measurement = measure(policy)
        except Exception as error:
            message = f"measuring raised {type(error).__name__}: {error}"
            return _evaluated(Measurement.failure(Outcome.RUN_ERROR, message), verdict)
        afterwards = check(session.output, session.reference, "after timing")
        if measurement.ok and not afterwards.ok:
            return _evaluated(Measurement.failure(afterwards.outcome, afterwards.message), afterwards)
        return _evaluated(measurement, verdict)

    def _timed(self, verified: VerifiedKernel, output: np.ndarray, policy: MeasurePolicy) -> Measurement:
        measurement = self._backend.measure(verified.kernel, verified.session.operands, output, policy)
        if not isinstance(measurement, Measurement):  # plugins return anything
            raise TypeError(f"not a Measurement but {type(measurement).__name__} was returned")
        if measurement.ok and not (
            measurement.samples and all(0 < sample < math.inf for sample in measurement.samples)
        ):
            raise ValueError(f"samples that are no times were returned: {measurement.samples[:3]}")
        return measurement

    def _packer(
        self, session: OpenSession, artifact: Artifact, kernel: LoadedKernel
    ) -> Callable[[Sequence[Operand]], Packed]:
        """``pack``, remembered per layout; without a layout's name, as long as the kernel is loaded."""
        kept = self._packed if artifact.weight_layout else PackedConstants(budget=1 << 62)
        key = (session.number, artifact.weight_layout)
        return lambda constants: kept.get(key, lambda: tuple(protected(array) for array in kernel.pack(constants)))


def _failed(outcome: Outcome, message: str) -> Evaluated:
    return Evaluated(Measurement.failure(outcome, message), verified=False)


def _evaluated(measurement: Measurement, verdict: Verdict) -> Evaluated:
    return Evaluated(measurement, verdict.ok, verdict.max_error, verdict.error_ratio)
