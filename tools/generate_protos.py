"""Regenerates the protobuf and gRPC code beside protos/fettle/v1/*.proto; ``--check`` only compares.

Generated code is checked in, so that installing fettle needs no compiler; grpcio-tools is pinned for the same reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent / "protos"
PACKAGE = "fettle/v1"


def generate(into: Path) -> list[Path]:
    """Compile every .proto of the package below ``into``; returns the generated files, relative to it.

    Raises:
        SystemExit: the compiler rejected a file (its message is on stderr).
    """
    well_known = Path(protoc.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / PACKAGE).glob("*.proto"))
    arguments = ["protoc", f"-I{ROOT}", f"-I{well_known}"]
    arguments += [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main([*arguments, *sources]) != 0:
        raise SystemExit("protoc failed")
    return sorted(path.relative_to(into) for path in (into / PACKAGE).glob("*_pb2*.py*") if path.is_file())


def stale(into: Path) -> list[str]:
    """Generated files that differ from the checked-in ones, are missing there, or have no source any more."""
    fresh = generate(into)
    differing = [p for p in fresh if not (ROOT / p).exists() or (ROOT / p).read_bytes() != (into / p).read_bytes()]
    checked_in = {p.relative_to(ROOT) for p in (ROOT / PACKAGE).glob("*_pb2*.py*") if p.is_file()}
    return sorted(str(path) for path in {*differing, *(checked_in - set(fresh))})


def main() -> int:
    """Command line; returns 1 when ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the checked-in files, write nothing")
    if not parser.parse_args().check:
        for path in generate(ROOT):
            print(path)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        differing = stale(Path(directory))
    for name in differing:
        print(f"not current: {name}", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
