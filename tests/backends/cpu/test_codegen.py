from __future__ import annotations

import pytest

from fettle.backends.api import Artifact, Candidate, Device
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Lowered
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload

ASSEMBLY = """
\t.text
kernel:
\tvmovups\t%zmm3, 64(%rsp)
\tvmovups\t64(%rsp), %zmm4
\tvmovups\t64(%rdi), %zmm4
\tvfmadd231ps\t(%rax){1to16}, %zmm1, %zmm2
\tvfnmadd213ss\t%xmm0, %xmm1, %xmm2
\tvpermb\t%zmm0, %zmm1, %zmm2
\tvpermi2b\t%zmm0, %zmm1, %zmm2
\tvpermd\t%zmm0, %zmm1, %zmm2
\tvpdpbusd\t%zmm0, %zmm1, %zmm2
\tvmovntps\t%zmm0, (%rax)
\tprefetcht0\t4096(%rax)
\tcallq\tmemset@PLT
.LBB0_1:
\tretq
"""


def test_assembly_facts_count_instructions_and_spills() -> None:
    facts = dict(codegen.assembly_facts(ASSEMBLY, 100))
    assert facts["instructions"] == 13
    assert facts["fma"] == 2
    assert facts["vpermb"] == 2
    assert facts["vpdpbusd"] == 1
    assert facts["stream_stores"] == 1
    assert facts["prefetches"] == 1
    assert facts["calls"] == 1
    assert facts["spills"] == 2
    assert facts["object_bytes"] == 100


def assembly_of(backend: CpuBackend, device: Device) -> str:
    workload = Workload.parse("matmul m=8 n=64 k=32 act=f32 weight=f32")
    candidate = Candidate(workload, device, backend.default(workload, device))
    return codegen.assembly(backend.family(workload, device).lower(candidate), device)


def test_code_stays_within_the_isa_level(backend: CpuBackend, any_isa: Device) -> None:
    assembly = assembly_of(backend, any_isa)
    bits = cpu.vector_bits(any_isa)
    assert ("%zmm" in assembly) == (bits == 512)
    assert "%ymm" not in assembly or bits >= 256
    assert ("vfmadd" in assembly) == ("fma" in cpu.features(any_isa))


def test_building_needs_no_compiler_or_linker(
    backend: CpuBackend, device: Device, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    workload = Workload.parse(artifact.workload)
    again = backend.build(Candidate(workload, device, artifact.schedule))
    backend.load(again)
    assert again.payload[:4] == b"\x7fELF"


def test_artifact_says_what_built_it_and_what_it_needs(artifact: Artifact, device: Device) -> None:
    assert artifact.toolchain.startswith("tvm-0.27")
    assert "llvm-" in artifact.toolchain
    assert set(artifact.isa) == cpu.features(device) - cpu.TILES  # no kernel has tile instructions by accident
    assert dict(artifact.facts)["family"] == "dense"


def test_function_the_compiler_rejects_is_a_build_failure(device: Device) -> None:
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("broken")
        data = T.arg("data", T.buffer((4,), "float32", align=4))
        T.buffer_store(data, T.call_extern("float32", "no such symbol", T.Var("undefined", "int32")), [0])
    with pytest.raises(BuildFailure):
        codegen.compile(Lowered(builder.get()), device, "kernel")
