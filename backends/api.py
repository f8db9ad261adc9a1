"""The plugin contract: everything the author of a backend needs to read.

A backend turns a (workload, device) pair into a *space* of schedules, builds a candidate of that space into
an *artifact*, loads the artifact as a callable kernel, and measures it. fettle does the rest: it samples the
space, runs builds and measurements in worker processes that may crash or hang, compares every kernel with the
reference before timing it, learns which schedules are good, and stores winners.

To write one: subclass :class:`Backend`, register the class under the entry-point group ``fettle.backends``
in your package's metadata, and run ``fettle backends`` to see it. Everything here is plain, frozen data;
units are seconds and bytes unless a name says otherwise.
"""

from __future__ import annotations

import abc
import enum
import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import attrs
import numpy as np

from fettle.graph import codec
from fettle.graph.errors import InvalidArgument, InvalidDevice, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.host.executor import Executor

RECORD_VERSION = 1
"""Version of :class:`Record` as stored. A reader meets an unknown version as a typed miss, never a crash."""

Value = int | float | str | bool
"""What a schedule's parameter may be."""

Pairs = tuple[tuple[str, Value], ...]


def _sorted_pairs(values: Mapping[str, Value] | Sequence[Sequence[Any]]) -> Pairs:
    items = values.items() if isinstance(values, Mapping) else ((name, value) for name, value in values)
    return tuple(sorted((str(name), value) for name, value in items))


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


# --------------------------------------------------------------------------------------------- devices


@attrs.frozen
class Device:
    """One concrete piece of hardware. Two equal devices run the same kernels equally fast.

    Attributes:
        backend: name of the backend that drives it.
        preset: what follows the colon of a device text (``gddr6-aim``, ``sm_90``), or empty.
        facts: silicon facts: vendor, family, model, stepping, ISA features, cache sizes. Never measured values.
        limits: what the user restricted: threads, ISA level, refresh. Part of the identity.
        label: a human name; not part of the identity.
    """

    backend: str
    preset: str = ""
    facts: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    limits: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    label: str = attrs.field(default="", eq=False)

    def fact(self, name: str, default: Any = None) -> Any:
        """A silicon fact, or ``default``."""
        return dict(self.facts).get(name, default)

    def limit(self, name: str, default: Any = None) -> Any:
        """A limit, or ``default``."""
        return dict(self.limits).get(name, default)

    @cached_property
    def key(self) -> str:
        """256-bit identity in hexadecimal."""
        return codec.digest(("fettle.device", self.backend, self.preset, self.facts, self.limits))

    def __str__(self) -> str:
        """The device text that selects it again on the same machine."""
        head = f"{self.backend}:{self.preset}" if self.preset else self.backend
        return ",".join([head, *(f"{name}={value}" for name, value in self.limits)])


@attrs.frozen
class DeviceText:
    """A parsed device text, ``backend[:preset][,key=value …]``."""

    backend: str
    preset: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> DeviceText:
        """Split a device text.

        Raises:
            InvalidDevice: malformed text or a repeated key.
        """
        head, *rest = text.split(",")
        backend, _, preset = head.partition(":")
        options: dict[str, str] = {}
        for part in rest:
            key, equals, value = part.partition("=")
            if not (key and equals and value) or key in options:
                raise InvalidDevice(
                    f"malformed option {part!r} in device {text!r}",
                    hint="a device is backend[:preset][,key=value …], e.g. cpu,threads=1",
                )
            options[key] = value
        if not backend:
            raise InvalidDevice(f"device {text!r} names no backend", hint="example: cpu,threads=1")
        return cls(backend, preset, tuple(sorted(options.items())))


@attrs.frozen
class Roof:
    """One measured limit of a device.

    Attributes:
        name: what was measured: ``read:L2``, ``read:dram``, ``peak:f32``, ``peak:i8``.
        value: bytes per second for ``read:*``, operations per second for ``peak:*``.
        threads: how many threads ran.
        working_set: bytes touched (0 for peaks).
    """

    name: str
    value: float
    threads: int = 1
    working_set: int = 0


@attrs.frozen
class Profile:
    """The measured roofs of a device, taken once and stored. Not part of the device's identity."""

    device_key: str
    roofs: tuple[Roof, ...]

    def roof(self, name: str, threads: int) -> Roof | None:
        """The roof of that name for the most threads not above ``threads``, or None."""
        found = [r for r in self.roofs if r.name == name and r.threads <= threads]
        return max(found, key=lambda r: r.threads, default=None)


# ------------------------------------------------------------------------------------ spaces, schedules


@attrs.frozen
class Schedule:
    """One point of a space: a value for every parameter. Plain data with a key."""

    values: Pairs = attrs.field(default=(), converter=_sorted_pairs)

    @classmethod
    def of(cls, **values: Value) -> Schedule:
        """Build from keywords."""
        return cls(tuple(values.items()))

    def __getitem__(self, name: str) -> Any:
        for key, value in self.values:
            if key == name:
                return value
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a parameter, or ``default``."""
        return dict(self.values).get(name, default)

    def as_dict(self) -> dict[str, Value]:
        """Parameter -> value."""
        return dict(self.values)

    @property
    def key(self) -> str:
        """256-bit key in hexadecimal."""
        return codec.digest(("fettle.schedule", self.values))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


@attrs.frozen
class Parameter:
    """One dimension of a space: a name and its finite, ordered choices.

    Attributes:
        name: a Python identifier; constraints refer to it.
        choices: the values, all of one type, no repeats. Numeric choices ascend.
    """

    name: str
    choices: tuple[Value, ...]

    def __attrs_post_init__(self) -> None:
        if not self.name.isidentifier():
            raise InvalidArgument(f"parameter name {self.name!r} is not an identifier")
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise InvalidArgument(f"parameter {self.name} needs at least one choice and no repeats")
        if len({type(c) for c in self.choices}) != 1:
            raise InvalidArgument(f"choices of parameter {self.name} have different types")
        if self.is_numeric and list(self.choices) != sorted(self.choices):
            raise InvalidArgument(f"numeric choices of parameter {self.name} must ascend")

    @property
    def is_numeric(self) -> bool:
        """Whether an order of the choices means something."""
        return type(self.choices[0]) in (int, float)

    @classmethod
    def integers(cls, name: str, low: int, high: int, step: int = 1) -> Parameter:
        """low, low+step, … up to high."""
        return cls(name, tuple(range(low, high + 1, step)))

    @classmethod
    def powers_of_two(cls, name: str, low: int, high: int) -> Parameter:
        """Powers of two in low … high."""
        return cls(name, tuple(1 << i for i in range(high.bit_length()) if low <= 1 << i <= high))

    @classmethod
    def divisors(cls, name: str, of: int, low: int = 1, high: int | None = None) -> Parameter:
        """Divisors of ``of`` in low … high."""
        top = of if high is None else min(of, high)
        return cls(name, tuple(d for d in range(low, top + 1) if of % d == 0))

    @classmethod
    def categorical(cls, name: str, choices: Sequence[Value]) -> Parameter:
        """Unordered choices (numbers must still ascend)."""
        return cls(name, tuple(choices))


@attrs.frozen
class Constraint:
    """A Python expression over parameter names that valid schedules satisfy: ``tile_m * tile_n <= 512``.

    Allowed: names, numbers, strings, ``+ - * // %``, comparisons (``in`` with a tuple), ``and or not``,
    ``a if c else b``, ``min(a, b)``, ``max(a, b)``. Division is floor division on integers.
    """

    expression: str
    reason: str = ""


def _parameters(values: Iterable[Parameter]) -> tuple[Parameter, ...]:
    return tuple(values)


def _constraints(values: Iterable[Constraint]) -> tuple[Constraint, ...]:
    return tuple(values)


@attrs.frozen
class Space:
    """The schedules possible for one (workload, device).

    Either declarative (``parameters`` and ``constraints``) or an explicit ``table`` of rows, one value per
    parameter. Enumeration, sampling and neighbourhoods: :func:`fettle.backends.spaces.enumerate_space`.

    Attributes:
        version: changes whenever the meaning of a parameter changes; stored with every record.
    """

    parameters: tuple[Parameter, ...] = attrs.field(converter=_parameters)
    constraints: tuple[Constraint, ...] = attrs.field(default=(), converter=_constraints)
    version: str = "1"
    table: tuple[tuple[Value, ...], ...] | None = None

    def __attrs_post_init__(self) -> None:
        names = [p.name for p in self.parameters]
        if len(set(names)) != len(names):
            raise InvalidArgument("a space has two parameters of one name")
        if self.table is not None and any(len(row) != len(names) for row in self.table):
            raise InvalidArgument("a row of the space's table has the wrong length")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)


# ---------------------------------------------------------------------------- candidates and artifacts


@attrs.frozen
class Candidate:
    """A schedule on its way to being measured."""

    workload: Workload
    device: Device
    schedule: Schedule

    @cached_property
    def key(self) -> str:
        """256-bit key in hexadecimal."""
        return codec.digest(("fettle.candidate", self.workload.key, self.device.key, self.schedule.values))


@attrs.frozen
class Artifact:
    """What building a candidate gives; everything needed to load it again on a machine with that device.

    Attributes:
        payload: the bytes of record: object file, cubin, compiled file, command program.
        kind: what the payload is (``elf-object``).
        abi: calling convention, checked at load (``tvm-ffi-1``).
        entry: symbol or entry name.
        workload, schedule: what it was built from (canonical text, and values).
        weight_layout: id of the packed layout its constants must have; empty if none.
        toolchain: what built it (``tvm-0.27.0.post1 llvm-22``).
        isa: instruction-set features it needs, sorted.
        facts: static facts of the program that features and tests use (instructions emitted, spills …).
    """

    payload: bytes = attrs.field(repr=False)
    kind: str
    abi: str
    entry: str
    workload: str
    schedule: Schedule
    weight_layout: str = ""
    toolchain: str = ""
    isa: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    facts: Pairs = attrs.field(default=(), converter=_sorted_pairs)

    @property
    def sha256(self) -> str:
        """Content hash over the canonical encoding of all fields, in hexadecimal."""
        return hashlib.sha256(codec.dumps(self)).hexdigest()


class LoadedKernel(Protocol):
    """A loaded artifact. Constants are packed once; calls take the rest."""

    def pack(self, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """Lay out the constant operands as the kernel wants them (see ``Artifact.weight_layout``)."""
        ...

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        """Compute into ``out``. Arrays are C-contiguous, of the workload's shapes, at any alignment."""
        ...


# ---------------------------------------------------------------------------------------- measurements


class Outcome(enum.Enum):
    """How a trial ended. Everything but ``OK`` is a typed failure that still cost a trial."""

    OK = "ok"
    INVALID = "invalid"
    COMPILE_ERROR = "compile_error"
    TIMEOUT = "timeout"
    CRASH = "crash"
    WRONG_RESULT = "wrong_result"
    RUN_ERROR = "run_error"


class Basis(enum.Enum):
    """Where a time comes from."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    ESTIMATED = "estimated"
    PREDICTED = "predicted"
    REPLAYED = "replayed"


@attrs.frozen
class MeasurePolicy:
    """How a kernel is timed.

    Attributes:
        mode: ``hot`` repeats on the same buffers; ``cold`` rotates packed weights over more memory than the
            last-level cache (or 1 GiB, whichever is smaller).
        warmup: untimed calls.
        min_sample: seconds one sample lasts at least; a sample is the mean of as many calls as that takes.
        samples: how many samples; one is enough of a kernel far slower than others of its workload.
        timeout: wall-clock limit for build, and for verify and measure together, each.
    """

    mode: str = "hot"
    warmup: int = 2
    min_sample: float = 0.005
    samples: int = 7
    timeout: float = 20.0

    def __attrs_post_init__(self) -> None:
        if self.mode not in ("hot", "cold"):
            raise InvalidArgument(f"measurement mode {self.mode!r} is neither hot nor cold")
        if self.samples < 1 or self.warmup < 0 or self.min_sample < 0 or self.timeout <= 0:
            raise InvalidArgument(f"measurement policy out of range: {self}")


@attrs.frozen
class Measurement:
    """Raw samples of one trial, or how it failed.

    Attributes:
        outcome: OK, or the typed failure.
        samples: seconds per call, one per sample; empty on failure.
        basis: where the samples come from.
        message: what went wrong, for people.
        counters: anything countable: cycles, bytes, commands, calls per sample.
        energy: joules per call where the device tells it, else None. Never estimated silently.
        objective: seconds that stand for the trial where their source says so itself (a recording's own figure);
            None: the median of the samples.
    """

    outcome: Outcome
    samples: tuple[float, ...] = attrs.field(default=(), converter=_floats)
    basis: Basis = Basis.MEASURED
    message: str = ""
    counters: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    energy: float | None = None
    objective: float | None = None

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def median(self) -> float:
        """Median of the samples in seconds; infinity for a failure."""
        return statistics.median(self.samples) if self.ok and self.samples else float("inf")

    @property
    def time(self) -> float:
        """What the search minimises, in seconds: the objective if one is stated, else the median."""
        return self.median if self.objective is None or not self.ok else self.objective

    @classmethod
    def failure(cls, outcome: Outcome, message: str, basis: Basis = Basis.MEASURED) -> Measurement:
        """A typed failure; the message is cut to 2000 characters."""
        return cls(outcome, (), basis, message[:2000])


@attrs.frozen
class Simulation:
    """What a model of hardware says about one schedule or command trace; what ``fettle simulate`` prints.

    Attributes:
        cycles: of the device's clock, from the first command to the last result.
        seconds: the same as time.
        schedule: every parameter with its value; empty for a trace, which has none.
        commands: name of a command -> how many were issued, on all channels together.
        dram_bytes: bytes moved into or out of DRAM arrays or devices.
        energy: joules from per-command constants, or None where the model has none.
        basis: SIMULATED, or ESTIMATED where a vendor's tool said so instead of a model of ours.
        counters: further figures that are the model's own (``compute_cycles``).
        offsets: tensor -> byte at which it lies in the scratchpad; empty where nothing is planned.
        trace: the commands, one a line as the device reads them back; empty unless asked for.
    """

    cycles: int
    seconds: float
    schedule: Schedule = Schedule()
    commands: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    dram_bytes: int = 0
    energy: float | None = None
    basis: Basis = Basis.SIMULATED
    counters: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    offsets: Pairs = attrs.field(default=(), converter=_sorted_pairs)
    trace: tuple[str, ...] = attrs.field(default=(), converter=_strings, repr=False)


@attrs.frozen
class Record:
    """One finished trial as stored.

    Attributes:
        verified: the kernel's results were within the workload's declared bound.
        max_error: largest ``|kernel - reference|``; None if it never ran.
        error_ratio: largest ``|kernel - reference| / tolerance``; at most 1 when verified.
        seconds: wall time the trial took, build and measurement.
        features: the cost model's inputs, as built.
        predicted: log(time / bound) the cost model expected before measuring, or None.
        predicted_std: its standard deviation, or None.
        artifact_bytes: size of the artifact's payload; None if nothing was built (nor in a recording).
    """

    candidate: Candidate
    measurement: Measurement
    policy: MeasurePolicy
    verified: bool = False
    max_error: float | None = None
    error_ratio: float | None = None
    artifact_sha256: str = ""
    toolchain: str = ""
    space_version: str = "1"
    record_version: int = RECORD_VERSION
    seconds: float = 0.0
    features: tuple[tuple[str, float], ...] = ()
    predicted: float | None = None
    predicted_std: float | None = None
    artifact_bytes: int | None = None


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


# ---------------------------------------------------------------------------------------------- plugin


class Backend(abc.ABC):
    """One kind of hardware. Instances are cheap and stateless: each worker process makes its own.

    ``space``, ``default``, ``supports`` and ``features`` run in the host process and must not touch the
    device; ``build``, ``load`` and ``measure`` run in worker processes and may crash or hang.
    """

    name: ClassVar[str]
    """The first word of a device text."""

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

    @abc.abstractmethod
    def profile(self, device: Device) -> Profile:
        """Measure the roofs of a device (seconds of work; runs in a worker; the caller stores it)."""

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
    def build(self, candidate: Candidate) -> Artifact:
        """Compile.

        Raises:
            BuildFailure: the candidate cannot be built.
        """

    @abc.abstractmethod
    def load(self, artifact: Artifact) -> LoadedKernel:
        """Make an artifact callable in this process.

        Raises:
            Unsupported: ABI, kind or ISA is not one this machine has.
        """

    @abc.abstractmethod
    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        """Time a verified kernel on ``operands`` (all of them, in the workload's order)."""

    @abc.abstractmethod
    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """Numbers the cost model learns from; with an artifact, also facts of the lowered program."""

    @abc.abstractmethod
    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        """The time no schedule can beat under the profile's roofs."""

    def estimate(self, candidate: Candidate) -> float | None:
        """Seconds from analysis alone, as rough as it is quick, and up to a factor that all schedules of the workload
        share; None, as by default: there is no such analysis. Runs in the host process.

        The cost model takes it for what is expected before any trial; a search with few trials looks only at the
        schedules of which it expects most.
        """
        return None

    def attach(self, device: Device, text: str) -> None:
        """Called in the host before a job works on a device, perhaps in another process than the one that resolved
        it: find again what the device's identity leaves out (the path of a file).

        Args:
            text: the device text the job was submitted with.

        Raises:
            NotFound, Conflict: it is gone, or something else by now.
        """

    def executor(self, device: Device) -> Executor | None:
        """What builds and measures for a device. None, as by default: worker processes on this machine. A backend
        that runs no code of candidates (a recording, a simulator that cannot crash) may do without them."""
        return None

    def program(self, candidate: Candidate) -> str:
        """The lowered program of a candidate as text, for models that learn from programs; empty, as by default, where
        the schedule says all. Runs in the host.

        Raises:
            BuildFailure: the candidate cannot be lowered.
        """
        return ""

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

    def weight_layout(self, workload: Workload, device: Device, schedule: Schedule) -> str:
        """Id of the packed layout a schedule's constants have; schedules with equal ids share packed constants."""
        return ""

    def worker_environment(self, device: Device) -> Mapping[str, str]:
        """Environment variables a worker process for this device needs."""
        return {}

    def prepare_worker(self, device: Device) -> None:
        """Called once in a worker before anything else: pin threads, request hardware features."""
