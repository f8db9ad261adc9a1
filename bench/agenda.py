"""What nobody has measured on a GPU yet, as a shortlist that a machine with the GPU works off in the order of worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from fettle.backends.api import Backend, Candidate, Device, MeasurePolicy, Record, Schedule, Value
from fettle.backends.host.executor import Executor
from fettle.backends.triton.shortlist import Entry, Shortlist, entry_of
from fettle.graph.errors import NotFound
from fettle.graph.workload import Workload

Changes = Mapping[str, Value]


@attrs.frozen
class Question:
    """Whether a workload's default, changed so, is faster: each change is one candidate beside the default."""

    workload: str
    changes: tuple[Changes, ...] = ()


def _u4(m: int, n: int = 11008, k: int = 4096, act: str = "bf16", weight: str = "u4:128") -> str:
    return f"matmul m={m} n={n} k={k} act={act} weight={weight} compute={act}"


QUESTIONS = (
    # launches that overlap: predicted to save the second one's start, 2.3 µs
    Question(_u4(128), ({"overlap": True}, {"overlap": True, "block_k": 64, "stages": 4})),
    Question(_u4(64), ({"overlap": True}, {"overlap": True, "stages": 4})),
    # few registers, so that five programs fit beside each other instead of three
    Question(_u4(16, 28672, 8192), ({"registers": 0}, {"registers": 0, "split": 3}, {"split": 4})),
    Question(_u4(16), ({"registers": 96}, {"split": 2, "stages": 4}, {"overlap": True, "reduce": "launch"})),
    Question(_u4(32), ({"stages": 4}, {"block_n": 128, "reduce": "launch", "overlap": True})),
    # parts of K by what fits beside each other
    *(Question(_u4(1, 28672, 8192, "f16", f"u{bits}:128"), ({"split": 2}, {"split": 4})) for bits in (8, 7, 6, 5)),
    # bytes by bytes
    Question("matmul m=128 n=11008 k=4096 act=bf16 weight=u8:row", ({"overlap": True},)),
    Question("matmul m=128 n=11008 k=4096 act=bf16 weight=f8e4m3:row compute=f8e4m3", ({"overlap": True},)),
    # a wide tile with a shallow pipeline, and a narrow one with a deep one
    Question(_u4(128, weight="u6:128"), ({"block_n": 64, "stages": 3},)),
    Question(_u4(64, weight="u3:128"), ({"block_n": 64, "stages": 3},)),
    # formats of which only predictions are known
    *(
        Question(f"matmul m={m} n=11008 k=4096 act=bf16 weight={weight}")
        for weight in ("mxfp4", "nvfp4", "mxfp6", "mxfp8") for m in (1, 16)
    ),
    Question(_u4(1, act="f16", weight="bcq3:128")),
    # a row in registers, and a row in passes
    Question("softmax rows=4096 cols=32000 act=bf16", ({"block": 16384, "warps": 16},)),
)  # fmt: skip
"""By what is hoped for, the most first; each workload's default is measured with it."""


def schedules(question: Question, backend: Backend, device: Device) -> tuple[Schedule, ...]:
    """The default and its changes, each once."""
    default = backend.default(Workload.parse(question.workload), device)
    changed = (Schedule.of(**{**default.as_dict(), **changes}) for changes in question.changes)
    return tuple(dict.fromkeys((default, *changed)))


def agenda(
    backend: Backend,
    executor: Executor,
    questions: Sequence[Question] = QUESTIONS,
    on_entry: Callable[[Entry], None] = lambda entry: None,
) -> Shortlist:
    """Compile all candidates for the executor's compile target, and predict them.

    Raises:
        NotFound: none could be predicted.
    """
    entries = []
    for entry in _entries(backend, executor, questions):
        entries.append(entry)
        on_entry(entry)
    if not entries:
        raise NotFound("no candidate of the agenda could be predicted")
    return Shortlist(str(executor.device), tuple(entries))


def _entries(backend: Backend, executor: Executor, questions: Sequence[Question]) -> Iterator[Entry]:
    policy = MeasurePolicy(timeout=120.0)
    for question in questions:
        workload = Workload.parse(question.workload)
        candidates = [
            Candidate(workload, executor.device, schedule) for schedule in schedules(question, backend, executor.device)
        ]
        with executor.open(workload, policy, seed=0) as session:
            records = [
                Record(build.candidate, session.evaluate(build.candidate, build.artifact).measurement, policy)
                for build in session.build(candidates)
                if build.artifact is not None
            ]
        default = backend.default(workload, executor.device)
        entry = entry_of(workload, records, default, top=len(candidates))
        if entry is not None:
            yield entry
