"""``fettle cache`` on a store of one kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from fettle.cli import cache
from fettle.graph.errors import NotFound
from fettle.store.open import open_store
from tests.store.samples import ARTIFACT, kernel


@pytest.mark.parametrize("whole", [True, False])
def test_verifying_a_cache_names_the_kernels_it_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    with open_store(tmp_path) as store:
        store.put_artifact(ARTIFACT)
        store.put_kernel(kernel())
    (artifact,) = (tmp_path / "artifacts").glob("??/*")
    if not whole:
        artifact.write_bytes(b"something else")
    with pytest.raises(typer.Exit) as ended:
        cache.verify(store=str(tmp_path), json=True)
    report = json.loads(capsys.readouterr().out)
    assert ended.value.exit_code == (0 if whole else 1)
    assert report["kernels"] == 1
    assert [row["workload"] for row in report["lost"]] == ([] if whole else [str(kernel().workload)])


@pytest.mark.parametrize("command", [cache.verify, cache.prune])
def test_what_looks_after_a_store_makes_none_where_a_name_is_mistyped(
    tmp_path: Path, command: Callable[..., None]
) -> None:
    with pytest.raises(NotFound, match="there is no store at"):
        command(store=str(tmp_path / "mistyped.sqlite3"))
    assert list(tmp_path.iterdir()) == []
