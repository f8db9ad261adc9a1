"""The Store in memory: one lock around dictionaries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from fettle.backends.api import Artifact, Device, Profile, Record
from fettle.graph import codec
from fettle.graph.errors import StoreUnavailable
from fettle.graph.workload import Workload
from fettle.store.api import Page, Pruned, Stats, Store, TrialPage
from fettle.store.claims import Held, MemoryClaims
from fettle.store.encoding import check_key, check_limit, to_json
from fettle.store.jobs import Job, JobEvent, JobState, WorkloadResult
from fettle.store.kernels import KERNEL_VERSION, Kernel
from fettle.store.memory.jobs import JobLog
from fettle.store.memory.trials import TrialLog
from fettle.store.missing import no_artifact
from fettle.store.paging import page_limit, read_token, write_token
from fettle.store.specs import JobSpec


class MemoryStore(Store):
    """Safe to share between threads.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._claims = MemoryClaims()
        self._mutex = threading.Lock()
        self._closed = False
        self._devices: dict[str, Device] = {}
        self._workloads: dict[str, Workload] = {}
        self._profiles: dict[str, Profile] = {}
        self._jobs = JobLog(clock)
        self._trials = TrialLog()
        self._artifacts: dict[str, tuple[float, bytes]] = {}  # when, what
        self._kernels: dict[str, Kernel] = {}
        self._models: dict[str, bytes] = {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._mutex:
            if self._closed:
                raise StoreUnavailable("the store in memory is closed")
            yield

    # -- devices

    def put_device(self, device: Device) -> None:
        with self._locked():
            self._devices.setdefault(device.key, device)

    def put_profile(self, profile: Profile) -> None:
        with self._locked():
            self._profiles[profile.device_key] = profile

    def get_profile(self, device_key: str) -> Profile | None:
        with self._locked():
            return self._profiles.get(device_key)

    # -- jobs

    def create_job(self, spec: JobSpec) -> tuple[Job, bool]:
        with self._locked():
            job, created = self._jobs.create(spec)
            if created:
                self._devices.setdefault(spec.device.key, spec.device)
                self._workloads.update((workload.key, workload) for workload, _ in spec.workloads)
            return job, created

    def get_job(self, job_id: str) -> Job:
        with self._locked():
            return self._jobs.get(job_id)

    def list_jobs(self, page_size: int = 50, page_token: str = "", states: Sequence[JobState] = ()) -> Page:
        limit = page_limit(page_size)
        before = read_token(page_token, states)
        with self._locked():
            jobs = self._jobs.page(limit + 1, before, states)
        return Page(jobs[:limit], write_token(jobs[limit - 1].id, states) if len(jobs) > limit else "")

    def move_job(self, job_id: str, expected: Sequence[JobState], to: JobState, error: str = "") -> bool:
        with self._locked():
            return self._jobs.move(job_id, expected, to, error)

    @contextmanager
    def claim_job(self, job_id: str) -> Iterator[Held]:
        self.get_job(job_id)
        with self._claims.claim(job_id) as held:
            yield held

    def request_cancel(self, job_id: str) -> Job:
        with self._locked():
            return self._jobs.cancel(job_id)

    def cancel_requested(self, job_id: str) -> bool:
        return self.get_job(job_id).cancel_requested

    def put_result(self, job_id: str, result: WorkloadResult) -> None:
        with self._locked():
            self._jobs.put_result(job_id, result)
            self._workloads[result.workload.key] = result.workload

    def append_event(self, job_id: str, kind: str, data: dict[str, object]) -> JobEvent:
        text = to_json(data)
        with self._locked():
            return self._jobs.append_event(job_id, kind, text)

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[JobEvent, ...]:
        check_limit(limit)
        with self._locked():
            return self._jobs.events(job_id, after, limit)

    # -- records

    def add_records(
        self, job_id: str, trials: Sequence[tuple[Record, dict[str, object] | None]]
    ) -> tuple[JobEvent | None, ...]:
        texts = [None if event is None else to_json(event) for _, event in trials]
        with self._locked():
            self._jobs.get(job_id)
            return tuple(self._add(job_id, record, text) for (record, _), text in zip(trials, texts, strict=True))

    def _add(self, job_id: str, record: Record, text: str | None) -> JobEvent | None:
        candidate = record.candidate
        if not self._trials.add(job_id, record):
            return None
        self._devices.setdefault(candidate.device.key, candidate.device)
        self._workloads[candidate.workload.key] = candidate.workload
        self._jobs.count_trial(job_id, failed=not record.measurement.ok)
        return None if text is None else self._jobs.append_event(job_id, "trial", text)

    def job_records(self, job_id: str, workload_key: str) -> tuple[Record, ...]:
        with self._locked():
            return self._trials.of_job(job_id, workload_key)

    def records(
        self,
        workload_key: str | None = None,
        device_key: str | None = None,
        limit: int = 10_000,
        *,
        operator: str | None = None,
        before_job: str | None = None,
    ) -> tuple[Record, ...]:
        check_limit(limit)
        with self._locked():
            return self._trials.newest(limit, workload_key, device_key, operator, before_job)

    def trials(
        self,
        after: int = 0,
        limit: int = 1000,
        *,
        job_id: str | None = None,
        device_key: str | None = None,
        operator: str | None = None,
    ) -> TrialPage:
        check_limit(limit)
        with self._locked():
            return self._trials.page(after, limit, job_id, device_key, operator)

    # -- kernels and artifacts

    def put_artifact(self, artifact: Artifact) -> str:
        with self._locked():
            self._artifacts[artifact.sha256] = self._clock(), codec.dumps(artifact)
        return artifact.sha256

    def get_artifact(self, sha256: str) -> Artifact:
        with self._locked():
            stored = self._artifacts.get(sha256)
        if stored is None:
            raise no_artifact(sha256)
        return codec.loads(Artifact, stored[1])

    def put_model(self, key: str, data: bytes) -> None:
        check_key(key)
        with self._locked():
            self._models[key] = data

    def get_model(self, key: str) -> bytes | None:
        check_key(key)
        with self._locked():
            return self._models.get(key)

    def put_kernel(self, kernel: Kernel) -> None:
        with self._locked():
            if kernel.artifact_sha256 not in self._artifacts:
                raise no_artifact(kernel.artifact_sha256)
            self._devices.setdefault(kernel.device.key, kernel.device)
            self._workloads[kernel.workload.key] = kernel.workload
            self._kernels[kernel.key] = kernel

    def get_kernels(self, keys: Sequence[str]) -> dict[str, Kernel]:
        with self._locked():
            found = {key: self._kernels[key] for key in keys if key in self._kernels}
        return {key: kernel for key, kernel in found.items() if kernel.version == KERNEL_VERSION}

    def kernels(
        self, device_key: str | None = None, operator: str | None = None, limit: int = 10_000
    ) -> tuple[Kernel, ...]:
        check_limit(limit)
        with self._locked():
            found = [
                kernel
                for kernel in self._kernels.values()
                if kernel.version == KERNEL_VERSION
                and device_key in (None, kernel.device.key)
                and operator in (None, kernel.workload.operator)
            ]
        return tuple(sorted(found, key=lambda kernel: (-kernel.created, kernel.key))[:limit])

    # -- everything

    def stats(self) -> Stats:
        with self._locked():
            return Stats(
                kernels=len(self._kernels),
                records=len(self._trials),
                failed_records=sum(not record.measurement.ok for record in self._trials),
                jobs=len(self._jobs),
                devices=len(self._devices),
                workloads=len(self._workloads),
                artifacts=len(self._artifacts),
                artifact_bytes=sum(len(data) for _, data in self._artifacts.values()),
            )

    def prune(self, unused_before: float, jobs_before: float | None = None) -> Pruned:
        with self._locked():
            used = {kernel.artifact_sha256 for kernel in self._kernels.values()}
            unused = [key for key, (when, _) in self._artifacts.items() if when < unused_before and key not in used]
            size = sum(len(self._artifacts.pop(key)[1]) for key in unused)
            gone = set[str]() if jobs_before is None else self._jobs.forget(jobs_before)
            return Pruned(len(unused), size, len(gone), self._trials.forget(gone))

    def close(self) -> None:
        self._closed = True
