"""What a build takes grows with the code a family writes: no schedule may write much, however large the problem.

Lines of TensorIR are counted, not seconds: 3,000 of them take most of a second to compile, 500 a fifth.
"""

from __future__ import annotations

import random

import pytest

from fettle.backends.api import Candidate, DeviceText
from fettle.backends.cpu import CpuBackend
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload

_ATTENTION = "attention heads=8 kv_heads=8 kv=1001"


@pytest.mark.parametrize(
    ("text", "device", "lines"),
    [
        (f"{_ATTENTION} q=12 dim=256 act=f32 kvcache=f32", "cpu", 3000),
        (f"{_ATTENTION} q=16 dim=256 act=bf16 kvcache=bf16", "cpu", 3000),
        (f"{_ATTENTION} q=16 dim=256 act=bf16 kvcache=u4:32/f32", "cpu", 1800),
        (f"{_ATTENTION} q=16 dim=256 act=bf16 kvcache=u8:32/f32", "cpu", 1800),
        (f"{_ATTENTION} q=16 dim=256 act=f32 kvcache=u8:64/f32", "cpu,isa=avx2", 3000),
        (f"{_ATTENTION} q=512 dim=256 act=bf16 kvcache=bf16", "cpu", 1800),
        ("matmul m=7 n=4096 k=4096 act=f32 weight=u4:128", "cpu", 800),
        ("matmul m=1 n=4096 k=4096 act=f32 weight=tern:128", "cpu,isa=portable", 800),
        ("matmul m=16 n=4096 k=4096 act=f32 weight=u3:128", "cpu", 800),
        ("matmul m=16 n=4096 k=4096 act=bf16 weight=u8:128 compute=bf16", "cpu", 800),
        ("matmul m=128 n=4096 k=4096 act=f32 weight=f32", "cpu", 800),
        ("matmul m=128 n=4096 k=4096 act=u8 weight=i8", "cpu", 800),
        ("conv2d n=1 c=64 h=56 w=56 oc=64 kh=7 kw=7 pad=3 act=f32 weight=f32", "cpu", 800),
        ("softmax rows=4096 cols=32000 act=f32", "cpu", 1400),
    ],
)
def test_code_of_any_schedule_is_short(backend: CpuBackend, text: str, device: str, lines: int) -> None:
    workload, where = Workload.parse(text), backend.device(DeviceText.parse(device))
    points, family = enumerate_space(backend.space(workload, where)), backend.family(workload, where)
    for index in random.Random(0).choices(range(len(points)), k=2):
        lowered = family.lower(Candidate(workload, where, points[index]))
        assert len(lowered.function.script().splitlines()) <= lines, points[index]
