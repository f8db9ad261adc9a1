"""The Triton backend with a compiler that goes wrong for some schedules."""

from __future__ import annotations

import ctypes
import subprocess
import time

import numpy as np

from fettle.backends.api import Artifact, Candidate
from fettle.backends.triton import TritonBackend
from fettle.graph.errors import BuildFailure
from tests.backends.triton.programs import artifact, kernel, program

FAULTS = {1: "none", 2: "hang", 4: "crash", 8: "raise", 16: "memory"}
"""What goes wrong, by the schedule's warps."""


class FaultyBackend(TritonBackend):
    """Compiles nothing."""

    def build(self, candidate: Candidate) -> Artifact:
        fault = FAULTS[candidate.schedule["warps"]]
        if fault == "hang":
            subprocess.run(["sleep", "3600"], check=False)  # as an assembler that never ends
            time.sleep(3600)
        if fault == "crash":
            ctypes.string_at(0)
        if fault == "raise":
            raise BuildFailure("PassManager::run failed")
        if fault == "memory":
            hoard = []
            while True:
                hoard.append(np.ones(1 << 22, np.uint8))
        return artifact(candidate, program(kernel(warps=1)))
