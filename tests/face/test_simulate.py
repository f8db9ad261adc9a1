"""``fettle simulate`` as other programs call it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fettle.cli.app import main
from tests.face.support import run_fettle

WORKLOAD = "matmul m=1 n=4096 k=4096 act=bf16 weight=bf16"
AIM = ("--device", "pim:gddr6-aim,channels=32")

Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fettle", "simulate", *words])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_json_has_the_promised_fields(here: Here) -> None:
    code, out, err = here(WORKLOAD, *AIM, "--schedule", '{"dataflow": "input_stationary"}', "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert {"cycles", "seconds", "commands", "dram_bytes", "energy_j", "schedule"} <= result.keys()
    assert result["cycles"] == 9665
    assert result["seconds"] == pytest.approx(9665 * 0.5e-9)
    assert result["commands"]["MACAB"] == 65536
    assert result["schedule"]["dataflow"] == "input_stationary"
    assert result["basis"] == "simulated"


def test_a_written_trace_times_the_same(here: Here, tmp_path: Path) -> None:
    _, out, _ = here(WORKLOAD, *AIM, "--trace", "gemv.trace", "--json")
    assert (tmp_path / "gemv.trace").read_text().startswith("HOST\nWRGB count=64\n")
    _, again, _ = here(*AIM, "--trace-in", "gemv.trace", "--json")
    assert json.loads(again)["cycles"] == json.loads(out)["cycles"]
    assert json.loads(again)["schedule"] == {}


@pytest.mark.parametrize(
    ("act", "weight", "device"),
    [
        ("bf16", "bf16", "pim:gddr6-aim"),
        ("bf16", "bf16", "pim:hbm-pim"),
        ("bf16", "u4:128", "pim:sram-lut"),
        ("i8", "i8", "npu:systolic"),
    ],
)
def test_a_product_without_operands_has_those_of_the_device(here: Here, act: str, weight: str, device: str) -> None:
    shape = "matmul m=1 n=256 k=512"
    code, out, _ = here(shape, "--device", device, "--json")
    _, said, _ = here(f"{shape} act={act} weight={weight}", "--device", device, "--json")
    assert (code, json.loads(out)) == (0, json.loads(said))


def test_the_table_names_cycles_and_schedule(tmp_path: Path) -> None:
    done = run_fettle(["simulate", WORKLOAD, *AIM], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9,665" in done.stdout
    assert "dataflow=input_stationary" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (AIM, 2, "either a workload or --trace-in"),
        ((WORKLOAD, *AIM, "--trace-in", "x"), 2, "either a workload or --trace-in"),
        ((WORKLOAD, *AIM, "--schedule", "{"), 2, "not JSON"),
        ((WORKLOAD, *AIM, "--schedule", "[1]"), 2, "must be a JSON object"),
        ((WORKLOAD, *AIM, "--schedule", '{"tile": 1}'), 2, "no parameter 'tile'"),
        (
            (WORKLOAD, *AIM, "--schedule", '{"dataflow": "x"}'),
            2,
            "none of its choices: input_stationary output_stationary host",
        ),
        ((*AIM, "--trace-in", "missing.trace"), 3, "no file"),
        ((*AIM, "--trace-in", "."), 2, "not a readable trace"),
        ((*AIM, "--trace-in", "x", "--schedule", '{"a": 1}'), 2, "already says"),
        ((WORKLOAD, *AIM, "--trace", "no/such/folder"), 2, "cannot write"),
        ((WORKLOAD, "--device", "cpu"), 1, "no model to simulate"),
        (("--device", "cpu", "--trace-in", "gemv.trace"), 3, "no file"),
        ((WORKLOAD, "--device", "pim:nowhere"), 2, "no preset"),
        (("matmul m=1", *AIM), 2, "needs the field"),
        (("matmul m=1 n=8 k=8 act=bf16", *AIM), 2, "exactly one of weight="),
        (("matmul m=1 n=8 k=8", "--device", "cpu"), 2, "needs the field"),
        (("rmsnorm rows=1 cols=8 act=f32", *AIM), 1, "cannot run"),
    ],
)
def test_bad_usage_says_what_is_wrong(here: Here, words: tuple[str, ...], code: int, message: str) -> None:
    ended, _, err = here(*words)
    assert (ended, message in err) == (code, True), err


def test_a_backend_without_traces_says_so(here: Here, tmp_path: Path) -> None:
    (tmp_path / "gemv.trace").write_text("HOST\n")
    code, _, err = here("--device", "cpu", "--trace-in", "gemv.trace")
    assert code == 1
    assert "reads no command traces" in err


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"HOST\r\nHOST\rHOST\n\r\nnonsense", "line 5 of the trace, 'nonsense'"),
        (b"HOST # a form feed \x0c is no end of a line\nnonsense", "line 2 of the trace, 'nonsense'"),
        (bytes(range(128, 256)), "line 1 of the trace"),
        (b"HOST\n\xff\xfe\0", "line 2 of the trace"),
        (b"", "no command"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_with_the_line(
    here: Here, tmp_path: Path, written: bytes, message: str
) -> None:
    (tmp_path / "bad.trace").write_bytes(written)
    code, _, err = here(*AIM, "--trace-in", "bad.trace")
    assert (code, message in err) == (2, True), err


def test_a_trace_may_begin_with_a_byte_order_mark(here: Here, tmp_path: Path) -> None:
    (tmp_path / "marked.trace").write_bytes(b"\xef\xbb\xbfMACAB row=3\r\n")
    assert here(*AIM, "--trace-in", "marked.trace")[0] == 0
