from __future__ import annotations

from pathlib import Path

import pytest
from fake_backend import DEVICE, FakeBackend
from helpers import POLICY, QUANTISED, alive, candidate, eventually

from fettle.backends.api import Outcome
from fettle.backends.host.executor import BuildResult, Session
from fettle.backends.host.local import LocalExecutor
from fettle.graph.errors import InvalidArgument

FAILURES = {
    "raise": Outcome.COMPILE_ERROR,
    "failure": Outcome.COMPILE_ERROR,
    "invalid": Outcome.INVALID,
    "crash": Outcome.CRASH,
    "exit": Outcome.CRASH,
    "hang": Outcome.TIMEOUT,
}


def facts(result: BuildResult) -> dict[str, object]:
    assert result.artifact is not None, result.failure
    return dict(result.artifact.facts)


def test_every_failure_is_typed_and_spares_its_neighbours(session: Session) -> None:
    asked = [how for bad in FAILURES for how in (bad, "ok")]
    results = session.build([candidate(build=how, tag=i) for i, how in enumerate(asked)])
    assert [result.candidate.schedule["build"] for result in results] == asked
    for how, result in zip(asked, results, strict=True):
        if how == "ok":
            assert result.artifact is not None
            assert result.failure is None
        else:
            assert result.artifact is None
            assert result.failure is not None
            assert result.failure.outcome is FAILURES[how]


def test_a_crash_names_the_signal_and_quotes_the_last_words(session: Session) -> None:
    [result] = session.build([candidate(build="crash")])
    assert result.failure is not None
    assert "SIGSEGV" in result.failure.message
    assert "about to touch address zero" in result.failure.message
    assert "Extension modules" not in result.failure.message


def test_a_build_whose_process_somebody_kills_gets_a_second_chance(session: Session, tmp_path: Path) -> None:
    once, always = session.build([candidate(build=f"killed once:{tmp_path / 'file'}"), candidate(build="killed")])
    assert once.artifact is not None
    assert (tmp_path / "file").exists()
    assert always.failure is not None
    assert always.failure.outcome is Outcome.CRASH
    assert "SIGKILL" in always.failure.message


def test_an_exit_names_its_status(session: Session) -> None:
    [result] = session.build([candidate(build="exit")])
    assert result.failure is not None
    assert "exited with status 7" in result.failure.message


def test_a_compile_error_keeps_the_compilers_words(session: Session) -> None:
    results = session.build([candidate(build="failure"), candidate(build="raise")])
    assert [result.failure.message for result in results if result.failure] == [
        "the compiler said no",
        "RuntimeError: asked to raise",
    ]


def test_printing_disturbs_nothing(session: Session) -> None:
    for result in session.build([candidate(build="print", tag=i) for i in range(3)]):
        assert result.artifact is not None


def test_a_runaway_compiler_is_killed_before_it_takes_the_machine(session: Session) -> None:
    [result] = session.build([candidate(build="memory")])
    assert result.failure is not None
    assert result.failure.outcome is Outcome.CRASH
    assert "128 MiB allowed" in result.failure.message


def test_builders_work_side_by_side(session: Session) -> None:
    results = session.build([candidate(tag=i, build_s=0.2) for i in range(2)])
    assert len({facts(result)["pid"] for result in results}) == 2


def test_no_candidates_give_no_results(session: Session) -> None:
    assert session.build([]) == []


def test_what_a_compiler_started_dies_with_it(session: Session) -> None:
    [result] = session.build([candidate(build="child")])
    assert result.failure is not None
    child = int(result.failure.message.split("child ")[1].split()[0])
    assert eventually(lambda: not alive(child))


def test_workers_are_light_prepared_and_free_to_use_every_core(session: Session) -> None:
    [result] = session.build([candidate()])
    seen = facts(result)
    assert seen["heavy"] == ""
    assert seen["torch_blocked"] is True
    assert seen["environment"] == "given"
    assert seen["prepared"] is True
    assert seen["cores"] == seen["host_cores"]  # although prepare_worker pinned the process to one


def test_workers_start_without_a_search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with LocalExecutor(FakeBackend(), DEVICE, builders=1) as executor, executor.open(QUANTISED, POLICY, 0) as session:
        [result] = session.build([candidate()])
        assert result.artifact is not None
        assert session.evaluate(result.candidate, result.artifact).measurement.ok


def test_a_backend_that_workers_cannot_import_is_refused() -> None:
    class Local(FakeBackend):
        pass

    with pytest.raises(InvalidArgument, match="cannot be imported"):
        LocalExecutor(Local(), DEVICE)


def test_an_executor_needs_a_builder() -> None:
    with pytest.raises(InvalidArgument, match="at least one builder"):
        LocalExecutor(FakeBackend(), DEVICE, builders=0)
