"""The checked-in generated code is what the .proto files give."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fettle.v1 import common_pb2, kernels_pb2, tuning_pb2

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    pytest.importorskip("grpc_tools")
    spec = importlib.util.spec_from_file_location("generate_protos", ROOT / "tools" / "generate_protos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_code_is_current(generator: ModuleType, tmp_path: Path) -> None:
    assert generator.stale(tmp_path) == []


def test_a_changed_proto_is_noticed(generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "protos" / "fettle" / "v1"
    source.mkdir(parents=True)
    for path in (ROOT / "protos" / "fettle" / "v1").glob("*.p*"):
        (source / path.name).write_bytes(path.read_bytes())
    kernels = source / "kernels.proto"
    kernels.write_text(kernels.read_text().replace("string nearest = 3;", "string nearest = 4;"))
    monkeypatch.setattr(generator, "ROOT", tmp_path / "protos")
    (tmp_path / "fresh").mkdir()
    assert generator.stale(tmp_path / "fresh") == ["fettle/v1/kernels_pb2.py"]


def test_only_watching_and_artifacts_stream() -> None:
    streams = {}
    for file in (tuning_pb2.DESCRIPTOR, kernels_pb2.DESCRIPTOR):
        assert file.package == "fettle.v1"
        for service in file.services_by_name.values():
            for method in service.methods:
                assert not method.client_streaming
                if method.server_streaming:
                    streams[method.name] = method.output_type.name
    assert streams == {"WatchJob": "JobEvent", "GetArtifact": "ArtifactChunk"}


def names(enum) -> list[str]:  # type: ignore[no-untyped-def]
    return [value.name for value in enum.DESCRIPTOR.values]


def test_enums_of_the_wire_name_every_value_of_the_domain() -> None:
    from fettle.backends.api import Basis
    from fettle.store.jobs import JobState

    assert {n.removeprefix("BASIS_") for n in names(common_pb2.Basis)} - {"UNSPECIFIED"} == {b.name for b in Basis}
    states = {n.removeprefix("JOB_STATE_") for n in names(tuning_pb2.JobState)}
    assert states - {"UNSPECIFIED"} == {s.name for s in JobState}
