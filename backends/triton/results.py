"""The folder of a measuring campaign: what its slices leave, and what reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from fettle.backends.api import Artifact, Device, Measurement, Profile, Record
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument

TRIALS, FINALS, DEVICE = "trials.jsonl", "finals.jsonl", "device.json"
ARTIFACTS, RECORDINGS = "artifacts", "recordings"


@attrs.frozen
class Final:
    """Interleaved measurements of the default (first, if it is valid) and the best others of one workload."""

    records: tuple[Record, ...]
    measurements: tuple[Measurement, ...]


@attrs.frozen
class Machine:
    """The GPU and its measured roofs, as the campaign found them."""

    device: Device
    profile: Profile


def append(path: Path, value: object) -> None:
    """Add a value as a line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(codec.to_data(value)) + "\n")


def keep(folder: Path, artifact: Artifact) -> str:
    """Store an artifact under its hash, which is returned."""
    (folder / ARTIFACTS).mkdir(exist_ok=True)
    (folder / ARTIFACTS / artifact.sha256).write_bytes(codec.dumps(artifact))
    return artifact.sha256


def write_machine(folder: Path, machine: Machine) -> None:
    """Into the campaign's folder: whole or, if this is cut off, not at all."""
    new = folder / f"{DEVICE}.new"
    new.write_text(json.dumps(codec.to_data(machine), indent=1) + "\n")
    new.replace(folder / DEVICE)


def read_machine(folder: Path) -> Machine | None:
    """What an earlier slice has written, if there was one. Raises InvalidArgument."""
    path = folder / DEVICE
    if not path.exists():
        return None
    try:
        return codec.from_data(Machine, json.loads(path.read_text()))
    except ValueError as error:
        raise InvalidArgument(f"{path} is not JSON: {error}", hint="without it, the GPU is measured again") from None


def read_trials(folder: Path) -> list[Record]:
    """Trials of all slices so far. Raises InvalidArgument."""
    return [codec.from_data(Record, data) for data in _lines(folder / TRIALS)]


def read_finals(folder: Path) -> list[Final]:
    """Finals of all slices so far. Raises InvalidArgument."""
    return [codec.from_data(Final, data) for data in _lines(folder / FINALS)]


def mend(path: Path) -> None:
    """Take away a last line that was cut off, so that what is appended does not go on with it."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _lines(path: Path) -> Iterator[object]:
    """The values of a file; its last line may have been cut off in the middle and is then left out."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines) or line.endswith(b"\n"):
                raise InvalidArgument(f"{path}, line {number}: not JSON") from None
