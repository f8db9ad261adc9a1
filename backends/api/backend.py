"""The class a plugin implements. First what every backend must say and do, then what one may add."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
import numpy as np

from fettle.backends.api.candidates import Artifact, Candidate, LoadedKernel
from fettle.backends.api.devices import Device, DeviceText, Profile
from fettle.backends.api.measurements import Measurement, MeasurePolicy
from fettle.backends.api.simulations import Simulation
from fettle.backends.api.spaces import Schedule, Space
from fettle.backends.api.values import Value
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.host.executor import Executor


class Backend(abc.ABC):
    """One kind of hardware. Instances are cheap and stateless: each process makes its own, without arguments.

    Methods run in the host process, where they must not touch the device, unless they are said to run in workers:
    processes that may crash or hang, which is then a typed failure of one trial.
    """

    name: ClassVar[str]
    """The first word of a device text."""

    # ------------------------------------------------------------------------------- which devices there are

    @abc.abstractmethod
    def devices(self) -> Sequence[Device]:
        """Devices usable here and now, best first; empty if none."""

    @abc.abstractmethod
    def device(self, text: DeviceText) -> Device:
        """The device a text names.

        Raises:
            InvalidDevice: unknown preset or option, or a value out of range.
            Unsupported: well formed, but not present on this machine.
        """

    # --------------------------------------------------------------------------------- what can be tuned, and how

    @abc.abstractmethod
    def supports(self, workload: Workload, device: Device) -> Support:
        """Yes, or no with the reason."""

    @abc.abstractmethod
    def space(self, workload: Workload, device: Device) -> Space:
        """The schedules of a supported workload."""

    @abc.abstractmethod
    def default(self, workload: Workload, device: Device) -> Schedule:
        """A sensible untuned schedule; always a valid point of the space."""

    @abc.abstractmethod
    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """Numbers the cost model learns from; with an artifact, also facts of the lowered program."""

    @abc.abstractmethod
    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """The time no schedule can beat under the profile's roofs."""

    # ------------------------------------------------------------------------------------------- in workers

    @abc.abstractmethod
    def profile(self, device: Device) -> Profile:
        """Measure the roofs of a device, in a worker. It may take seconds: it is done once, and stored."""

    @abc.abstractmethod
    def build(self, candidate: Candidate) -> Artifact:
        """Compile, in a worker.

        Raises:
            BuildFailure: the candidate cannot be built.
            InvalidArgument, Unsupported: its schedule is none of the workload's, or of this device's.
        """

    @abc.abstractmethod
    def load(self, artifact: Artifact) -> LoadedKernel:
        """Make an artifact callable in this process: a worker, or the program that deploys it.

        Raises:
            Unsupported: ABI, kind or ISA is not one this machine has.
        """

    @abc.abstractmethod
    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        """Time a verified kernel, in the worker that loaded it, on all operands in the workload's order."""

    # -------------------------------------------------------------------------- optional: about the worker

    def worker_environment(self, device: Device) -> Mapping[str, str]:
        """Environment variables a worker process for this device needs."""
        return {}

    def prepare_worker(self, device: Device) -> None:
        """Called once in a worker before anything else: pin threads, request hardware features."""

    # ------------------------------------------------------------------------- optional: for a better search

    def estimate(self, candidate: Candidate) -> float | None:
        """Seconds from analysis alone, up to a factor that all schedules of the workload share; may be as rough as it
        is quick. None, as by default: there is no such analysis.

        The cost model takes it for what is expected before any trial; a search with few trials looks only at the
        schedules of which it expects most.
        """
        return None

    def program(self, candidate: Candidate) -> str:
        """The lowered program as text, for models that learn from programs; empty, as by default, where the schedule
        says all.

        Raises:
            BuildFailure: the candidate cannot be lowered.
        """
        return ""

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        """The ``Artifact.weight_layout`` of what a schedule is built into, without building it: schedules with equal
        ids can read one packed copy of the weights, and ``fettle.tune_distribution`` looks for such."""
        return ""

    # ------------------------------------------- optional: devices that are models, files, or somewhere else

    def executor(self, device: Device) -> Executor | None:
        """What builds and measures for a device; None, as by default: worker processes on this machine.

        A backend that runs no code of candidates (a recording, a simulator that cannot crash) may do without them.
        """
        return None

    def attach(self, device: Device, text: str) -> None:
        """Find again what the device's identity leaves out (the path of a file).

        Called before a job works on a device, perhaps in another process than the one that resolved it.

        Args:
            text: the device text the job was submitted with.

        Raises:
            NotFound, Conflict: it is gone, or something else by now.
        """

    def simulate(
        self, workload: Workload, device: Device, schedule: Mapping[str, Value], *, trace: bool = False
    ) -> Simulation:
        """Ask a model of the device about a schedule, without data and without computing a result.

        Args:
            schedule: some parameters of :meth:`space`; those left out take the textbook value, which may depend on
                the ones given.
            trace: also return the commands.

        Raises:
            Unsupported: this backend models nothing, the workload is not supported, or there is no trace.
            InvalidArgument: an unknown parameter, a value that is no choice, or a violated constraint.
        """
        raise Unsupported(
            f"backend {self.name!r} has no model to simulate", hint="fettle simulate needs a device of npu or pim"
        )

    def simulate_trace(self, device: Device, lines: Iterable[str]) -> Simulation:
        """Time a command trace, as :meth:`simulate` writes it or as the device's docs describe it.

        Raises:
            Unsupported: this backend reads no traces.
            InvalidArgument: a malformed line, or a command the device does not have.
        """
        raise Unsupported(f"backend {self.name!r} reads no command traces")


@attrs.frozen
class Support:
    """Whether a backend can tune a workload on a device; if not, why."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok

    @classmethod
    def yes(cls) -> Support:
        return cls(True)

    @classmethod
    def no(cls, reason: str) -> Support:
        return cls(False, reason)


@attrs.frozen
class Bound:
    """A time no schedule can beat, and the roof that says so (``read:L3``, ``peak:f32``)."""

    seconds: float
    roof: str
