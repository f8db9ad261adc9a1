"""The benchmark on tiny workloads, with peers that are missing, wrong, slow or fast, and a timer of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import pytest
import typer

from fettle.backends.api import Profile, Roof
from fettle.backends.registry import resolve_device
from fettle.bench.cpu import OURS, Bench, tune_all
from fettle.bench.goals import Case, Goal
from fettle.bench.peers import Effort, Peer, Rival
from fettle.bench.results import judge
from fettle.bench.timing import Timed
from fettle.cli.benches.cpu import cpu
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.open import open_store

SOFTMAX = "softmax rows=4 cols=64 act=f32"
OTHER = "rmsnorm rows=4 cols=64 act=f32"
UNKNOWN = "transmogrify rows=4"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(str(tmp_path_factory.mktemp("bench") / "store.sqlite3")) as opened:
        yield opened


GOAL = Goal(
    "tiny", "softmax", (Case("4x64", SOFTMAX, OTHER), Case("?", UNKNOWN)), ("good", "absent"), 0.65, of_roof=0.9
)


@pytest.fixture(scope="module")
def missing(store: Store) -> dict[tuple[str, int], str]:
    return tune_all(store, [GOAL], [1], trials=2, seed=0, force=False)


def exact(name: str, scale: float = 1.0) -> Peer:
    """A peer that returns the reference, times ``scale``."""

    def peer(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
        result = (scale * data.reference(workload, operands).expected).astype(np.float32)
        return [Rival(name, lambda: None, lambda: result, 4.25)]

    return peer


def absent(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    raise Unsupported("absent is not installed", hint="pip install absent")


def bench(
    store: Store,
    missing: Mapping[tuple[str, int], str],
    peers: Mapping[str, Peer],
    seconds: Mapping[str, float],
) -> Bench:
    def timer(rivals: Mapping[str, Callable[[], object]], rounds: int) -> Timed:
        for call in rivals.values():
            call()
        return Timed({n: seconds[n] for n in rivals}, {n: (seconds[n],) * rounds for n in rivals})

    backend, device = resolve_device("cpu,threads=1")
    profile = Profile(device.key, (Roof("read:L1", 1e9), Roof("peak:f32", 1e15)))
    return Bench(store, backend, device, 1, profile, missing, rounds=3, peers=peers, timer=timer)


def test_ratio_is_to_the_fastest_rival_and_missing_peers_say_how_to_get_them(
    store: Store, missing: dict[tuple[str, int], str]
) -> None:
    times = {OURS: 2.0, "good": 4.0, "softmax": 8.0}
    goal = Goal("tiny", "softmax", (Case("4x64", SOFTMAX),), ("good", "absent"), 0.65, of_roof=0.9)
    (case,) = bench(store, missing, {"good": exact("good"), "absent": absent}, times).cases(goal, lambda _: None)
    row = judge(goal, 1, [case])
    assert (case.seconds, case.peer, case.ratio) == (2.0, "good", 0.5)
    assert case.effort is not None
    assert (case.effort.trials, case.effort.seconds > 0) == (2, True)
    assert row.reached is True
    by_name = {peer.name: peer for peer in case.peers}
    assert by_name["good"].seconds == 4.0
    assert by_name["good"].bits_per_weight == 4.25
    assert by_name["absent"].seconds is None
    assert by_name["absent"].missing == "absent is not installed (pip install absent)"
    assert case.roof == "read:L1"
    assert case.roof_seconds == pytest.approx(2 * 4 * 64 * 4 / 1e9)
    assert case.of_roof == pytest.approx(case.roof_seconds / 2.0)
    assert row.roof_reached is False


def test_slow_rivals_are_screened_out_and_keep_their_screening_time(
    store: Store, missing: dict[tuple[str, int], str]
) -> None:
    goal = Goal("tiny", "softmax", (Case("4x64", SOFTMAX),), ("quick", "slow"), 0.65)
    peers = {"quick": exact("quick"), "slow": exact("slow")}
    (case,) = bench(store, missing, peers, {OURS: 2.0, "quick": 1.0, "slow": 9.0}).cases(goal, lambda _: None)
    assert case.ratio == 2.0
    assert {p.name: (p.seconds, p.ratio) for p in case.peers} == {"quick": (1.0, 2.0), "slow": (9.0, None)}


def test_a_rival_that_a_search_found_is_timed_in_full(store: Store, missing: dict[tuple[str, int], str]) -> None:
    def searched(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
        return [attrs.evolve(rival, effort=Effort(7, 3.0)) for rival in exact("slow")(workload, operands, threads)]

    goal = Goal("tiny", "softmax", (Case("4x64", SOFTMAX),), ("quick", "slow"), 0.65)
    peers = {"quick": exact("quick"), "slow": searched}
    (case,) = bench(store, missing, peers, {OURS: 2.0, "quick": 1.0, "slow": 9.0}).cases(goal, lambda _: None)
    assert (case.peer, case.ratio) == ("quick", 2.0)
    assert {p.name: (p.ratio, p.effort) for p in case.peers} == {
        "quick": (2.0, None),
        "slow": (pytest.approx(2 / 9), Effort(7, 3.0)),
    }


def test_peer_that_computes_something_else_is_not_timed(store: Store, missing: dict[tuple[str, int], str]) -> None:
    goal = Goal("tiny", "softmax", (Case("4x64", SOFTMAX),), ("wrong",), 0.65)
    (case,) = bench(store, missing, {"wrong": exact("wrong", 1.5)}, {OURS: 2.0}).cases(goal, lambda _: None)
    (peer,) = case.peers
    assert peer.normalised_error == pytest.approx(0.25)
    assert peer.missing == "not timed: its normalised error is 2.5e-01"
    assert case.ratio is None


def test_workload_that_nobody_supports_says_so_instead_of_failing(
    store: Store, missing: dict[tuple[str, int], str]
) -> None:
    goal = Goal("tiny", "softmax", (Case("?", UNKNOWN),), ("good",), 0.65)
    (case,) = bench(store, missing, {"good": exact("good")}, {OURS: 2.0}).cases(goal, lambda _: None)
    assert judge(goal, 1, [case]).reached is None
    assert case.missing == "not supported: unknown operator 'transmogrify'"


def test_cached_kernels_are_not_tuned_again(store: Store, missing: dict[tuple[str, int], str]) -> None:
    kinds = []
    tune_all(store, [GOAL], [1], trials=2, seed=0, force=False, on_event=lambda event: kinds.append(event.kind))
    assert "trial" not in kinds


def test_an_interrupted_bench_tells_what_it_timed(
    store: Store,
    missing: dict[tuple[str, int], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    goal = Goal("tiny", "softmax", (Case("first", SOFTMAX), Case("second", OTHER)), ("good",), 0.65)
    rounds = []

    def timer(rivals: Mapping[str, Callable[[], object]], count: int) -> Timed:
        rounds.append(count)
        if len(rounds) > 1:
            raise KeyboardInterrupt
        return Timed(dict.fromkeys(rivals, 1.0), dict.fromkeys(rivals, (1.0,) * count))

    stopped = attrs.evolve(bench(store, missing, {"good": exact("good")}, {}), timer=timer)
    monkeypatch.setattr(Bench, "on", classmethod(lambda cls, *arguments: stopped))
    monkeypatch.setattr("fettle.bench.cpu.tune_all", lambda *arguments, **options: missing)
    monkeypatch.setattr("fettle.bench.goals.goals", lambda groups, shapes: (goal, goal))
    with pytest.raises(typer.Exit) as ended:
        cpu(store=str(tmp_path / "store.sqlite3"), json=True)
    assert ended.value.exit_code == 130
    found = json.loads(capsys.readouterr().out)
    assert found["interrupted"]
    (row,) = found["rows"]
    assert ([case["label"] for case in row["cases"]], row["ratio"], row["reached"]) == (["first"], 1.0, None)


def test_worker_processes_never_import_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, pathlib\npathlib.Path(__file__).with_name(f'imported.{os.getpid()}').touch()\n"
    )
    program = (
        "from fettle.tuning import tune\n"
        f"print(tune({SOFTMAX!r}, 'cpu,threads=1', trials=2, store={str(tmp_path / 'store.sqlite3')!r}).state.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["done"]
    assert not list(tmp_path.glob("imported.*"))
