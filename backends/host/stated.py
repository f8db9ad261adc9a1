"""What executors share whose times are stated by a model or a recording: no worker processes, and no noise."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import attrs

from fettle.backends.api import Artifact, Backend, Device, Measurement, Profile
from fettle.backends.host.executor import Executor, Session


class StatedExecutor(Executor):
    """Owns nothing but its device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def device(self) -> Device:
        return self._device

    def close(self) -> None:
        pass


class ModelExecutor(StatedExecutor):
    """Asks its backend, which knows a device by a model of it."""

    def __init__(self, backend: Backend, device: Device) -> None:
        super().__init__(device)
        self._backend = backend

    def profile(self) -> Profile:
        return self._backend.profile(self._device)


class StatedSession(Session):
    """A session in which asking twice gives the same answer."""

    @abc.abstractmethod
    def stated(self, artifact: Artifact) -> Measurement:
        """The time of an artifact that was evaluated before."""

    def compare(self, artifacts: Sequence[Artifact], rounds: int) -> list[Measurement]:
        """The stated time in every round: it does not vary."""
        found = [self.stated(artifact) for artifact in artifacts]
        return [attrs.evolve(m, samples=(m.time,) * rounds) if m.ok else m for m in found]

    def close(self) -> None:
        pass
