"""Inner loops of the untuned kernels: their instruction, sums that stay in registers, no calls."""

from __future__ import annotations

import pytest

from fettle.backends.api import Candidate, DeviceText
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.graph.workload import Workload
from tests.backends.cpu.assembly import calls, hot_loops, spills

pytestmark = pytest.mark.skipif(
    not cpu.LEVELS["avx512vnni"] <= cpu.Machine.detect().features, reason="needs AVX-512 VNNI"
)

LOOPS = {
    "matmul m=1 n=64 k=256 act=f32 weight=u4:128 compute=f32": ("vfmadd", 16),
    "matmul m=16 n=64 k=256 act=f32 weight=u4:128 compute=f32": ("vfmadd", 16),
    "matmul m=32 n=64 k=64 act=f32 weight=f32": ("vfmadd", 16),
    "matmul m=32 n=64 k=64 act=f32 rhs=f32": ("vfmadd", 16),
    "matmul m=32 n=64 k=64 act=u8 weight=i8": ("vpdpbusd", 16),
    "conv2d n=1 c=64 h=28 w=28 oc=64 kh=3 kw=3 pad=1 act=f32 weight=f32": ("vfmadd", 16),
    "conv2d n=1 c=16 h=14 w=14 oc=16 kh=3 kw=3 pad=1 act=u8 weight=i8": ("vpdpbusd", 16),
    "softmax rows=4 cols=4096 act=f32": ("vmaxps", 4),
    "rmsnorm rows=4 cols=4096 act=f32": ("vfmadd", 4),
    "layernorm rows=4 cols=4096 act=f32": ("vfmadd", 4),
    "elementwise shape=4x4096 act=f32 expr=silu(x0)*x1": ("vfmadd", 16),
    "quantize rows=4 cols=512 act=f32 out=lut4:128/f32": ("vperm", 16),
}
"""Workload -> instruction of an inner loop, and how many of it there are in one pass at least."""


@pytest.mark.parametrize("text", LOOPS)
def test_inner_loops_spill_nothing_and_call_nothing(backend: CpuBackend, text: str) -> None:
    workload, device = Workload.parse(text), backend.device(DeviceText.parse("cpu,isa=avx512vnni,threads=1"))
    candidate = Candidate(workload, device, backend.default(workload, device))
    loops = hot_loops(codegen.assembly(backend.family(workload, device).lower(candidate), device), *LOOPS[text])
    assert loops
    for loop in loops:
        assert not spills(loop)
        assert not calls(loop)
