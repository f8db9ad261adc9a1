"""Small recordings, made by formula: what is read back can be computed without reading it."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

TIMES = {(x, y): 2.0 + abs(x - 4) + 0.5 * abs(y - 2) for x, y in itertools.product((1, 2, 4, 8, 16), (1, 2, 3))}
"""Milliseconds of each configuration (x, y) that works; the best is (4, 2)."""

BROKEN = {(1, 1): "compile", (16, 3): "runtime"}
"""What is wrong with those that do not."""

FAILED_VALUES = {"compile": "CompilationFailedConfig", "runtime": "RuntimeFailedConfig"}


def result(x: int, y: int) -> dict[str, Any]:
    """One T4 result, with the keys of the public benchmark hub."""
    invalidity = BROKEN.get((x, y), "correct")
    valid = invalidity == "correct"
    times: dict[str, Any] = {"compilation": 100.5, "framework": 1.5, "search_algorithm": 0, "validation": 0}
    value: float | str = FAILED_VALUES.get(invalidity, "")
    if valid:
        value = TIMES[x, y]
        times["runtimes"] = [value + 0.25, value - 0.25, value + 0.125, value - 0.125]
    return {
        "timestamp": "2023-12-22 09:53:48.691683+00:00",
        "configuration": {"x": x, "y": y, "kind": "plain" if x < 8 else "wide"},
        "times": times,
        "invalidity": invalidity,
        "correctness": int(valid),
        "measurements": [{"name": "time", "value": value, "unit": ""}],
        "objectives": ["time"],
    }


def t4() -> dict[str, Any]:
    """A T4 document of all configurations; the unit is spelt as the hub spells it."""
    return {
        "metadata": {"timeunit": "miliseconds"},
        "results": [result(x, y) for x, y in TIMES],
        "schema_version": "1.0.0",
    }


def cache() -> dict[str, Any]:
    """The same as a Kernel Tuner cache file."""
    entries = {}
    for x, y in TIMES:
        row = result(x, y)
        entry = {**row["configuration"], "time": row["measurements"][0]["value"], "compile_time": 100.5}
        if "runtimes" in row["times"]:
            entry["times"] = row["times"]["runtimes"]
        entries[f"{x},{y},{entry['kind']}"] = entry
    return {
        "schema_version": "1.1.0",
        "device_name": "Paper 4000",
        "kernel_name": "vector_add",
        "problem_size": 10000,
        "tune_params_keys": ["x", "y", "kind"],
        "tune_params": {"x": [1, 2, 4, 8, 16], "y": [1, 2, 3], "kind": ["plain", "wide"]},
        "objective": "time",
        "cache": entries,
    }


def write(path: Path, document: Any) -> Path:
    """A file of a document; gzip if the name ends in ``.gz``."""
    data = json.dumps(document).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def large(path: Path) -> Path:
    """A recording of 1,200 configurations, a seventh of which fail: more than one job tries."""
    results = []
    for number, (a, b, c, d) in enumerate(itertools.product(range(10), range(10), range(4), (1, 2, 4))):
        valid = number % 7 != 3
        value = 1.0 + 0.1 * (a - 6) ** 2 + 0.07 * (b - 3) ** 2 + 0.3 * (c - 1) ** 2 + 0.05 * d
        measurement = {"name": "time", "value": value if valid else "RuntimeFailedConfig", "unit": "ms"}
        results.append(
            {
                "configuration": {"a": a, "b": b, "c": c, "d": d},
                "times": {"runtimes": [value, value * 1.01, value * 0.99]} if valid else {},
                "invalidity": "correct" if valid else "runtime",
                "correctness": int(valid),
                "measurements": [measurement],
                "objectives": ["time"],
            }
        )
    return write(path, {"metadata": {}, "results": results, "schema_version": "1.0.0"})
