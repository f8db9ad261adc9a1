"""``fettle bench``: one JSON object on stdout; usage errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.face.support import parsed, run_fettle


def test_gemv_without_peers_prints_one_json_object(tmp_path: Path) -> None:
    for peer in ("torch", "onnxruntime"):
        (tmp_path / f"{peer}.py").write_text("raise ImportError")
    words = ["bench", "gemv", "--shapes", "D", "--formats", "u4:128", "--trials", "1", "--rounds", "1", "--json"]
    done = run_fettle(words, tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = parsed(done)
    assert set(found) == {"bench", "device", "peers", "interrupted", "roofs", "missed", "rows"}
    (row,) = found["rows"]
    (case,) = row["cases"]
    assert (row["name"], row["threads"], row["ratio"], row["reached"]) == ("GEMV u4:128", 1, None, None)
    assert case["seconds"] > 0
    assert case["bits_per_weight"] == 4.125
    assert case["normalised_error"] < 1e-3
    assert [peer["missing"] for peer in case["peers"]] == [
        "onnxruntime is not installed (pip install 'fettle-tuner[compare]')",
        "torch is not installed (pip install torch==2.13.0)",
    ]


@pytest.mark.parametrize(
    "words",
    [["cpu", "--only", "gemv,pancakes"], ["cpu", "--shapes", "A,Z"], ["gemv", "--threads", "1,x"]],
)
def test_unknown_words_are_usage_errors(words: list[str], tmp_path: Path) -> None:
    done = run_fettle(["bench", *words], tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
