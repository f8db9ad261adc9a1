"""The house keeps its arrows: rooms import downwards only, and light imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "graph": set(),
    "backends": {"graph"},
    "costmodel": {"backends", "graph"},
    "store": {"backends", "graph"},
    "search": {"costmodel", "store", "backends", "graph"},
    "service": {"search", "costmodel", "store", "backends", "graph", "v1"},
    "face": {"service", "search", "costmodel", "store", "backends", "graph", "bench", "<root>"},
    "bench": {"service", "search", "costmodel", "store", "backends", "graph", "<root>"},
}
ROOMS = set(ALLOWED) - {"face"} | {"v1"}


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "fettle":
                rooms.add(parts[1] if len(parts) > 1 and parts[1] in ROOMS else "<root>")
    return rooms


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_room_imports_only_rooms_below_it(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        beyond = imported_rooms(file) - ALLOWED[room] - {room}
        assert not beyond, f"{file.relative_to(ROOT)} imports {sorted(beyond)}"


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_fettle_imports_nothing_eagerly() -> None:
    assert not loaded_after("import fettle") & {"numpy", "grpc", "sqlalchemy", "tvm", "optuna", "torch", "onnx"}


def test_resolving_the_cpu_device_needs_neither_tvm_nor_service_nor_store() -> None:
    loaded = loaded_after("from fettle.backends.registry import resolve_device; resolve_device('cpu')")
    assert not loaded & {"tvm", "grpc", "sqlalchemy", "torch", "optuna", "onnx"}


HEAVY = {"grpc", "sqlalchemy", "tvm", "optuna", "torch", "onnx", "numba", "lightgbm", "sklearn"}


def loaded_by(*words: str) -> set[str]:
    return loaded_after(
        "import contextlib, io, sys\n"
        f"sys.argv = {['fettle', *words]!r}\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    from fettle.cli.app import main\n"
        "    main()\n"
    )


@pytest.mark.parametrize(
    "words",
    [("--help",), ("devices",), ("tune", "no_such_operator")],
    ids=" ".join,
)
def test_a_command_loads_nothing_heavy_before_it_has_work_to_do(words: tuple[str, ...]) -> None:
    assert not loaded_by(*words) & HEAVY


def test_the_list_of_commands_loads_none_of_them() -> None:
    assert not loaded_by("--help") & {"numpy", "cattrs"}


def test_what_a_command_needs_is_seen_here(tmp_path: Path) -> None:
    assert HEAVY & loaded_by("jobs", "list", "--store", str(tmp_path)) == {"sqlalchemy"}


def test_no_folder_of_the_repository_shadows_the_package() -> None:
    assert not (ROOT / "fettle").exists()
