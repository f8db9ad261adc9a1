"""A backend that needs no hardware, and a stand-in for run_job that tests steer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fettle.backends.api import (
    Artifact,
    Backend,
    Basis,
    Bound,
    Candidate,
    Device,
    DeviceText,
    LoadedKernel,
    Measurement,
    MeasurePolicy,
    Parameter,
    Profile,
    Schedule,
    Space,
    Support,
)
from fettle.graph.errors import InvalidDevice
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import Kernel


class PaperBackend(Backend):
    """Exists on paper only: describes itself, builds nothing."""

    name = "paper"

    def devices(self) -> Sequence[Device]:
        return (self.device(DeviceText("paper")),)

    def device(self, text: DeviceText) -> Device:
        if text.backend != "paper":
            raise InvalidDevice(f"no device {text.backend!r}", hint="only paper")
        threads = int(dict(text.options).get("threads", "2"))
        return Device("paper", facts=(("model", "A4"), ("cache", 4096)), limits=(("threads", threads),), label="sheet")

    def profile(self, device: Device) -> Profile:
        return Profile(device.key, ())

    def supports(self, workload: Workload, device: Device) -> Support:
        return Support.no("paper cannot do softmax") if workload.operator == "softmax" else Support.yes()

    def space(self, workload: Workload, device: Device) -> Space:
        return Space((Parameter("fold", (1, 2, 4)),))

    def default(self, workload: Workload, device: Device) -> Schedule:
        return Schedule.of(fold=1)

    def build(self, candidate: Candidate) -> Artifact:
        raise NotImplementedError

    def load(self, artifact: Artifact) -> LoadedKernel:
        raise NotImplementedError

    def measure(
        self, kernel: LoadedKernel, operands: Sequence[Operand], out: np.ndarray, policy: MeasurePolicy
    ) -> Measurement:
        raise NotImplementedError

    def features(self, candidate: Candidate, artifact: Artifact | None) -> Mapping[str, float]:
        return {}

    def bound(self, workload: Workload, device: Device, profile: Profile) -> Bound:
        return Bound(1e-6, "read:dram")


PAPER = PaperBackend()


def resolve_paper(text: str) -> tuple[Backend, Device]:
    return PAPER, PAPER.device(DeviceText.parse(text))


class Steps:
    """Stands in for run_job: ``trials`` trial events, then results. Obeys cancel and pause, goes on where it stopped.

    Set ``gated`` and each trial waits for one release of ``permits``.
    """

    def __init__(self, trials: int = 3) -> None:
        self.trials = trials
        self.gated = False
        self.permits = threading.Semaphore(0)
        self.started: list[str] = []
        self.threads: set[str] = set()

    def __call__(
        self,
        store: Store,
        job_id: str,
        *,
        cancel: threading.Event,
        pause: threading.Event,
        on_event: Callable[[JobEvent], None],
    ) -> Job:
        with store.claim_job(job_id):
            if not store.move_job(job_id, (JobState.QUEUED, JobState.PAUSED, JobState.RUNNING), JobState.RUNNING):
                return store.get_job(job_id)

            def say(kind: str, data: dict[str, object]) -> None:
                on_event(store.append_event(job_id, kind, data))

            def end(state: JobState) -> Job:
                store.move_job(job_id, (JobState.RUNNING,), state)
                say("state", {"state": state.value, "error": ""})
                return store.get_job(job_id)

            self.started.append(job_id)
            self.threads.add(threading.current_thread().name)
            say("state", {"state": "running", "error": ""})
            job = store.get_job(job_id)
            done = sum(event.kind == "trial" for event in store.events(job_id))
            for trial in range(done + 1, self.trials + 1):
                while self.gated and not self.permits.acquire(timeout=0.01):
                    if cancel.is_set() or pause.is_set():
                        break
                if pause.is_set():
                    return end(JobState.PAUSED)
                if cancel.is_set():
                    return end(JobState.CANCELLED)
                say("trial", trial_data(trial, self.trials))
            for workload, count in job.spec.workloads:
                result = WorkloadResult(workload, count, trials=self.trials, verified=True, default_s=2e-3, best_s=1e-3)
                store.put_result(job_id, result)
            return end(JobState.DONE)


def trial_data(trial: int, trials: int) -> dict[str, object]:
    return {
        "workload": "matmul m=1 n=64 k=64 act=f32 weight=u4:32",
        "trial": trial,
        "trials": trials,
        "outcome": "ok",
        "seconds": 1e-3 * trial,
        "best_s": 1e-3,
        "failed": 0,
        "schedule": {"fold": 2, "order": "nk", "prefetch": True, "ratio": 0.5},
        "eta_s": None,
        "done": trial,
        "total": trials,
    }


def matmul(n: int = 64, k: int = 64) -> Workload:
    return Workload.of("matmul", m=1, n=n, k=k, act="f32", weight="u4:32")


def make_kernel(
    workload: Workload, device: Device, artifact: Artifact, mode: str = "hot", best: float = 1e-3
) -> Kernel:
    return Kernel(
        workload=workload,
        device=device,
        schedule=Schedule.of(fold=2, order="nk"),
        artifact_sha256=artifact.sha256,
        mode=mode,
        basis=Basis.MEASURED,
        default_s=2e-3,
        best_s=best,
        best_ci=(0.9 * best, 1.1 * best),
        bound_s=5e-4,
        bound="read:dram",
        max_error=1e-6,
        error_ratio=0.25,
        trials=64,
        job_id="job",
        created=1000.0,
        toolchain="scissors-1",
        abi="paper-1",
        isa=("fold", "staple"),
        space_version="1",
    )


def make_artifact(size: int = 200_000) -> Artifact:
    payload = np.random.default_rng(7).bytes(size)
    return Artifact(payload, "sheet", "paper-1", "main", str(matmul()), Schedule.of(fold=2), facts=(("folds", 3),))
