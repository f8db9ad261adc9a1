"""Which recordings a server lets its clients name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle.backends.api import Backend, Device
from fettle.backends.registry import resolve_device
from fettle.graph.errors import FettleError, InvalidDevice, NotFound, Unsupported
from fettle.service.replayroot import within_root
from tests.backends.replay.samples import t4, write


def test_recordings_under_the_root_are_resolved_and_other_devices_are_left_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    def resolve(text: str) -> tuple[Backend, Device]:
        asked.append(text)
        return resolve_device("cpu")

    path = write(tmp_path / "a.json", t4())
    for text in ("cpu", f"replay:{path}", f"replay:{tmp_path}/x/../a.json"):
        within_root(resolve, tmp_path)(text)
    within_root(resolve, None)("cpu,threads=1")
    assert asked == ["cpu", f"replay:{path}", f"replay:{path}", "cpu,threads=1"]


def test_without_a_root_every_recording_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", t4())
    with pytest.raises(Unsupported, match="--replay-root"):
        within_root(resolve_device, None)(f"replay:{path}")


@pytest.mark.parametrize(
    "name",
    ["{root}/../b.json", "{root}/link.json", "{root}/folder/b.json", "{root}x/b.json", "/etc/passwd", "a.json", ""],
)
def test_paths_that_lead_elsewhere_are_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    outside = tmp_path / "rootx"
    root.mkdir()
    outside.mkdir()
    write(root / "a.json", t4())
    write(outside / "b.json", t4())
    write(tmp_path / "b.json", t4())
    (root / "link.json").symlink_to(outside / "b.json")
    (root / "folder").symlink_to(outside)

    def never(text: str) -> tuple[Backend, Device]:
        raise AssertionError(text)

    with pytest.raises(InvalidDevice):
        within_root(never, root)(f"replay:{name.format(root=root)}")


def test_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        within_root(resolve_device, tmp_path)(f"replay:{tmp_path}/none.json")
    with pytest.raises(FettleError):
        within_root(resolve_device, tmp_path)(f"replay:{tmp_path}/a\0b.json")


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        within_root(resolve_device, tmp_path / "none")
