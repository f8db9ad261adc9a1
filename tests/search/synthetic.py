"""A backend whose times are a formula, and an executor that runs it in this process: no workers, no hardware."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import attrs
import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Bound,
    Candidate,
    Constraint,
    Device,
    DeviceText,
    LoadedKernel,
    Measurement,
    MeasurePolicy,
    Outcome,
    Parameter,
    Profile,
    Roof,
    Schedule,
    Space,
    Support,
)
from fettle.backends.host.executor import BuildResult, Executor, Session, TrialResult
from fettle.graph.errors import ResourceExhausted
from fettle.graph.workload import Workload

DEVICE = Device("synthetic", limits=(("threads", 1),))
DEFAULT = Schedule.of(algorithm="plain", tile_m=8, tile_n=8, unroll=1, prefetch=0, packed=False)


def workload(n: int = 256) -> Workload:
    return Workload.of("matmul", m=16, n=n, k=256, act="f32", weight="f32")


def chance(*parts: object) -> float:
    """A number in 0 … 1 that looks random but depends on its arguments alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") / 2.0**64


class SyntheticBackend(Backend):
    """About 10^4 valid schedules; the best algorithm, and the best tiles of each algorithm, depend on ``variant``.

    Args:
        small: a space of 27 schedules instead.
        fails: how a schedule fails, or None.
        rugged: size of the unpredictable part of log(time).
    """

    name: ClassVar[str] = "synthetic"

    def __init__(
        self,
        *,
        variant: int = 0,
        small: bool = False,
        fails: Callable[[Schedule], Outcome | None] = lambda schedule: None,
        rugged: float = 0.05,
    ) -> None:
        self.variant, self.small, self.fails, self.rugged = variant, small, fails, rugged

    def devices(self) -> Sequence[Device]:
        return (DEVICE,)

    def device(self, text: DeviceText) -> Device:
        return DEVICE

    def profile(self, device: Device) -> Profile:
        return Profile(device.key, (Roof("peak:f32", 1e9),))

    def supports(self, workload: Workload, device: Device) -> Support:
        return Support.yes() if workload.operator == "matmul" else Support.no("only matmul")

    def space(self, workload: Workload, device: Device) -> Space:
        if self.small:
            tiles = (Parameter("tile_m", (4, 8, 16)), Parameter("tile_n", (4, 8, 16)), Parameter("unroll", (1, 2, 4)))
            rest = (Parameter("prefetch", (0,)), Parameter("packed", (False,)), Parameter("algorithm", ("plain",)))
            return Space((*tiles, *rest))
        return Space(
            (
                Parameter.categorical("algorithm", ("plain", "blocked", "lut", "split")),
                Parameter.powers_of_two("tile_m", 1, 256),
                Parameter.powers_of_two("tile_n", 1, 256),
                Parameter.powers_of_two("unroll", 1, 8),
                Parameter.integers("prefetch", 0, 4),
                Parameter.categorical("packed", (False, True)),
            ),
            (Constraint("tile_m * tile_n <= 8192"), Constraint("unroll <= tile_n or packed")),
            version="synthetic-1",
        )

    def default(self, workload: Workload, device: Device) -> Schedule:
        return DEFAULT

    def build(self, candidate: Candidate) -> Artifact:
        return Artifact(
            payload=candidate.key.encode(),
            kind="formula",
            abi="synthetic-1",
            entry="kernel",
            workload=str(candidate.workload),
            schedule=candidate.schedule,
            toolchain="synthetic",
            facts=(("instructions", 100),),
        )

    def load(self, artifact: Artifact) -> LoadedKernel:
        raise NotImplementedError("synthetic kernels are not run")

    def measure(self, kernel: object, operands: object, out: np.ndarray, policy: MeasurePolicy) -> Measurement:
        raise NotImplementedError("synthetic kernels are not run")

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        values = candidate.schedule
        return {"log2_area": math.log2(values["tile_m"] * values["tile_n"])}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return Bound(workload.flops / 1e9, "peak:f32")

    def seconds(self, workload: Workload, schedule: Schedule) -> float:
        """The true time: the bound times a factor from 1.1 to about 20."""
        key = (self.variant, schedule["algorithm"])
        excess = 0.1 + 1.2 * chance(*key, "algorithm")
        for name, low, high, weight in (
            ("tile_m", 1, 6, 0.10), ("tile_n", 3, 7, 0.14), ("unroll", 0, 3, 0.16),
        ):  # fmt: skip
            best = low + (high - low) * chance(*key, name)
            excess += weight * abs(math.log2(schedule[name]) - best) ** 1.5
        excess += 0.12 * abs(schedule["prefetch"] - round(4 * chance(*key, "prefetch")))
        excess += 0.5 * (schedule["packed"] == (chance(*key, "packed") < 0.5)) * (math.log2(schedule["tile_n"]) > 4)
        excess += self.rugged * chance(self.variant, schedule.key)
        return workload.flops / 1e9 * math.exp(excess)


@attrs.define
class FakeClock:
    """Time that passes only when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class SyntheticSession(Session):
    def __init__(self, executor: SyntheticExecutor, workload: Workload, policy: MeasurePolicy) -> None:
        self.executor, self.workload, self.policy = executor, workload, policy
        self.closed = False

    def build(self, candidates: Sequence[Candidate]) -> list[BuildResult]:
        results = []
        for candidate in candidates:
            failure = self.executor.backend.fails(candidate.schedule)
            if failure in (Outcome.INVALID, Outcome.COMPILE_ERROR):
                results.append(BuildResult(candidate, None, Measurement.failure(failure, "no build"), 0.1))
            else:
                results.append(BuildResult(candidate, self.executor.backend.build(candidate), None, 0.1))
        self.executor.clock.now += self.executor.build_seconds * len(candidates)
        return results

    def evaluate(self, candidate: Candidate, artifact: Artifact) -> TrialResult:
        assert not self.closed
        self.executor.evaluated.append(candidate)
        self.executor.clock.now += self.executor.trial_seconds
        self.executor.after_trial(len(self.executor.evaluated))
        failure = self.executor.backend.fails(candidate.schedule)
        if failure is not None:
            return TrialResult(Measurement.failure(failure, "as told"), False, None, None, 0.1)
        seconds = self.executor.backend.seconds(self.workload, candidate.schedule)
        noise = self.executor.noise
        samples = [seconds * math.exp(noise * (chance(artifact.sha256, i) - 0.5)) for i in range(self.policy.samples)]
        measurement = Measurement(Outcome.OK, tuple(samples), energy=self.executor.energy(candidate.schedule))
        return TrialResult(measurement, True, 1e-6, 0.1, 0.1)

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        self.executor.compared.append((len(artifacts), rounds))
        results = []
        for artifact in artifacts:
            seconds = self.executor.backend.seconds(self.workload, artifact.schedule)
            noise = self.executor.noise
            samples = [seconds * math.exp(noise * (chance(artifact.sha256, i) - 0.5)) for i in range(rounds)]
            results.append(Measurement(Outcome.OK, tuple(samples)))
        return results

    def close(self) -> None:
        self.closed = True


class SyntheticExecutor(Executor):
    """Records what was evaluated and compared, and lets a test act after each trial."""

    def __init__(
        self,
        backend: SyntheticBackend,
        *,
        clock: FakeClock | None = None,
        trial_seconds: float = 1.0,
        build_seconds: float = 0.25,
        noise: float = 0.0,
        after_trial: Callable[[int], None] = lambda number: None,
        too_large: Callable[[Workload], bool] = lambda workload: False,
        sessions_at_once: int = 1000,
        energy: Callable[[Schedule], float | None] = lambda schedule: None,
    ) -> None:
        self.backend, self.clock, self.noise = backend, clock or FakeClock(), noise
        self.trial_seconds, self.build_seconds = trial_seconds, build_seconds
        self.energy = energy
        self.after_trial, self.too_large, self.sessions_at_once = after_trial, too_large, sessions_at_once
        self.evaluated: list[Candidate] = []
        self.compared: list[tuple[int, int]] = []
        self.sessions: list[SyntheticSession] = []
        self.profiled = 0
        self.closed = False

    def open(self, workload: Workload, policy: MeasurePolicy, seed: int) -> Session:
        alive = [s for s in self.sessions if not s.closed]
        if self.too_large(workload) or len(alive) >= self.sessions_at_once:
            raise ResourceExhausted("operands do not fit in memory")
        self.sessions.append(SyntheticSession(self, workload, policy))
        return self.sessions[-1]

    def profile(self) -> Profile:
        self.profiled += 1
        return self.backend.profile(DEVICE)

    def close(self) -> None:
        self.closed = True

    @property
    def device(self) -> Device:
        return DEVICE
