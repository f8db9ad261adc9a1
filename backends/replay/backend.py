"""The replay backend as the plugin contract wants it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Bound,
    Candidate,
    Device,
    DeviceText,
    LoadedKernel,
    Measurement,
    MeasurePolicy,
    Profile,
    Schedule,
    Space,
    Support,
)
from fettle.backends.replay.executor import ReplayExecutor, ReplaySession, artifact
from fettle.backends.replay.files import read_recording
from fettle.backends.replay.recording import Recording
from fettle.graph.errors import BuildFailure, Conflict, InvalidDevice, NotFound, Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

OPERATOR = "recorded"

_KEPT = 8
"""Recordings kept in memory; the others are read again when asked for."""

_TICK = 1e-9
"""Seconds that no kernel beats: about one clock cycle. A recording knows no roofs, and its optimum is not for us."""


class ReplayBackend(Backend):
    """Devices that are files. A device's identity is the file's content, so its path is remembered here, beside it."""

    name: ClassVar[str] = "replay"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, Path] = {}
        self._recordings: OrderedDict[str, Recording] = OrderedDict()
        self._stamps: dict[tuple[str, int, int, int], str] = {}

    def devices(self) -> Sequence[Device]:
        """None: a recording is named by its file."""
        return ()

    def device(self, text: DeviceText) -> Device:
        """The device of ``replay:FILE``.

        Raises:
            InvalidDevice: no file is named.
            NotFound, InvalidArgument, ResourceExhausted: see :func:`fettle.backends.replay.files.read_recording`.
        """
        if not text.preset or text.options:
            raise InvalidDevice(
                "a replay device is replay:FILE, without options", hint="the file's path may not have a comma in it"
            )
        path = Path(text.preset)
        recording = self._open(path)
        label = recording.device_name or path.name.split(".")[0]
        facts = {"content": recording.digest, "name": recording.device_name}
        return Device(self.name, recording.digest[:12], tuple(facts.items()), label=label)

    def attach(self, device: Device, text: str) -> None:
        """Find the file again that a job named.

        Raises:
            Conflict: it is another one by now.
            NotFound, InvalidArgument, ResourceExhausted: it cannot be read any more.
        """
        if device.fact("content") in self._recordings:
            return
        if self.device(DeviceText.parse(text)) != device:
            raise Conflict(f"{text} is not what it was when the job was submitted", hint="submit it again")

    def profile(self, device: Device) -> Profile:
        return Profile(device.key, ())

    def supports(self, workload: Workload, device: Device) -> Support:
        if workload.operator != OPERATOR:
            return Support.no(f"a replay device brings its own workload: {OPERATOR}")
        return Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return self.recording(device).space

    def default(self, workload: Workload, device: Device) -> Schedule:
        """The first configuration that gave a right result."""
        recording = self.recording(device)
        return recording.schedule(recording.first_valid)

    def build(self, candidate: Candidate) -> Artifact:
        (built,) = ReplaySession(self.recording(candidate.device)).build([candidate])
        if built.failure is not None:
            raise BuildFailure(f"{built.failure.outcome.value}: {built.failure.message}")
        return artifact(candidate)

    def load(self, artifact: Artifact) -> LoadedKernel:
        raise Unsupported("a recorded kernel cannot be run; only its times are there")

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        raise Unsupported("a recorded kernel cannot be run; only its times are there")

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        """None beyond the parameters."""
        return {}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return Bound(_TICK, "tick")

    def executor(self, device: Device) -> ReplayExecutor:
        return ReplayExecutor(device, self.recording(device))

    def recording(self, device: Device) -> Recording:
        """The recording of a device that this process has opened.

        Raises:
            NotFound: it has not, or the file is gone.
            Conflict: the file is another one by now.
        """
        digest = str(device.fact("content"))
        with self._lock:
            recording = self._recordings.get(digest)
            path = self._paths.get(digest)
            if recording is not None:
                self._recordings.move_to_end(digest)
                return recording
        if path is None:
            raise NotFound(f"the file of {device} is not known here", hint="name the device as replay:FILE")
        recording = self._open(path)
        if recording.digest != digest:
            raise Conflict(f"{path} is not what it was", hint="submit the job again")
        return recording

    def _open(self, path: Path) -> Recording:
        """Read a file, unless it is in memory and has not changed since."""
        stamp = _stamp(path)
        with self._lock:
            known = self._recordings.get(self._stamps.get(stamp, "")) if stamp else None
        if known is not None:
            return known
        recording = read_recording(path)
        with self._lock:
            self._paths[recording.digest] = path.absolute()
            self._recordings[recording.digest] = recording
            if stamp:
                self._stamps[stamp] = recording.digest
            while len(self._recordings) > _KEPT:
                gone, _ = self._recordings.popitem(last=False)
                self._stamps = {s: digest for s, digest in self._stamps.items() if digest != gone}
        return recording


def _stamp(path: Path) -> tuple[str, int, int, int] | None:
    """What changes when a file does; None if it cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return str(path.absolute()), found.st_mtime_ns, found.st_size, found.st_ino
