"""Bad usage is an error like any other: exit code 2, words for people on stderr, an object for programs on stdout."""

from __future__ import annotations

import json
import sys

import pytest

from fettle.cli import main


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["lookup"], "workload"),
        (["tune", "softmax rows=8 cols=96 act=f32", "--bogus"], "--bogus"),
        (["tune", "softmax rows=8 cols=96 act=f32", "--trials", "many"], "--trials"),
        (["tune", "softmax rows=8 cols=96 act=f32", "--compare", "--device", "npu:systolic"], "--compare"),
        (["tune", "softmax rows=8 cols=96 act=f32", "--compare", "--cold"], "--compare"),
        (["tune", "softmax rows=8 cols=96 act=f32", "--compare", "--server", "127.0.0.1:1"], "--compare"),
        (["jobs", "list", "--limit", "0"], "--limit"),
        (["cache", "export"], "--corpus"),
        (["nonsense"], "nonsense"),
        (["--bogus"], "--bogus"),
    ],
)
def test_bad_usage_with_json_is_one_json_object_and_exits_with_2(
    words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fettle", *words, "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    error = json.loads(printed.out)["error"]
    assert error["kind"] == "InvalidArgument"
    assert reason in error["message"]
    assert reason in printed.err


def test_bad_usage_without_json_leaves_stdout_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fettle", "lookup"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().out == ""
