"""What an installation has: an editable one reads the source folders, and cannot tell that a file is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("backends", "bench", "costmodel", "face", "graph", "protos", "search", "service", "store")

_LIST = """
from setuptools.dist import Distribution
from distutils.core import run_setup
build = run_setup("setup.py", stop_after="commandline").get_command_obj("build_py")
build.ensure_finalized()
for package, folder, module in build.find_all_modules():
    print(module)
for package, folder, built, names in build.data_files:
    print(*(f"{folder}/{name}" for name in names), sep="\\n")
"""


def test_every_file_beside_the_code_is_installed() -> None:
    listed = subprocess.run([sys.executable, "-c", _LIST], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [file.relative_to(ROOT) for room in ROOMS for file in (ROOT / room).rglob("*") if file.is_file()]
    wanted = {str(file) for file in files if "__pycache__" not in file.parts and file.parts[:2] != ("bench", "results")}
    assert "backends/npu/data/energy.json" in wanted
    assert wanted <= set(listed.stdout.split())
