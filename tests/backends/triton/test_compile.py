"""Ahead-of-time compilation without a GPU: every target takes code, and the machine code is what it claims to be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fettle.backends.api import Artifact, Candidate, MeasurePolicy, Outcome, Value
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.backends.triton.executor import CompileExecutor
from fettle.backends.triton.predict import Prediction, predict
from fettle.backends.triton.program import Program
from fettle.backends.triton.resources import occupancy
from fettle.backends.triton.sass import disassemble, sass_loop
from fettle.backends.triton.targets import TARGETS
from fettle.graph.workload import Workload
from fettle.store.memory import MemoryStore

FOUR_BITS = "matmul m=16 n=4096 k=4096 act=f16 weight=u4:128 compute=f16"


@pytest.fixture(scope="module")
def executor() -> Iterator[CompileExecutor]:
    backend, device = resolve_device("triton:sm_90")
    with CompileExecutor(backend, device, builders=1) as opened:
        yield opened


def build(executor: CompileExecutor, text: str, target: str = "sm_90", **changes: Value) -> Artifact:
    backend, device = resolve_device(f"triton:{target}")
    workload = Workload.parse(text)
    schedule = enumerate_space(backend.space(workload, device)).schedule(
        backend.default(workload, device).as_dict() | changes
    )
    with executor.open(workload, MeasurePolicy(timeout=120.0), seed=0) as session:
        (result,) = session.build([Candidate(workload, device, schedule)])
    assert result.artifact is not None, result.failure
    return result.artifact


SMOKE = (
    "matmul m=1 n=256 k=512 act=bf16 weight=u4:128 compute=bf16",
    "matmul m=16 n=256 k=512 act=f16 weight=nvfp4",
    "matmul m=64 n=256 k=256 act=f16 weight=f16",
    "attention heads=4 kv_heads=2 q=64 kv=256 dim=64 act=f16 causal=true",
    "elementwise shape=64x64 act=f16 expr=silu(x0)*x1",
    "lossless n=64 k=256 act=bf16",
)
"""One of every family, two of the one with most variants."""


@pytest.mark.parametrize("target", TARGETS)
def test_every_family_compiles_for_every_target(executor: CompileExecutor, target: str) -> None:
    backend, device = resolve_device(f"triton:{target}")
    workloads = [Workload.parse(text) for text in SMOKE]
    families = {backend.family(workload, device).name for workload in workloads}  # type: ignore[attr-defined]
    assert families == {"lowbit", "dense", "attention", "rows", "lossless"}
    candidates = [Candidate(workload, device, backend.default(workload, device)) for workload in workloads]
    with executor.open(workloads[0], MeasurePolicy(timeout=120.0), seed=0) as session:
        results = session.build(candidates)
    for result in results:
        assert result.artifact is not None, result.failure
        assert result.artifact.isa == (target,)
        program = Program.of(result.artifact)
        assert isinstance(predict(program, TARGETS[target]), Prediction)
        for kernel in program.kernels:
            assert kernel.compiled is not None
            assert kernel.compiled.code[:4] == b"\x7fELF"
            assert 0 < kernel.compiled.resources.registers <= 255
            assert kernel.compiled.resources.spills == 0


def test_inline_ptx_takes_few_instructions_a_weight(executor: CompileExecutor) -> None:
    changes = {"method": "ptx", "scale": "late", "values": 4, "block_m": 16, "block_n": 64, "block_k": 256, "warps": 4,
               "split": 1, "reduce": "launch"}  # fmt: skip
    (kernel,) = Program.of(build(executor, FOUR_BITS, **changes)).kernels
    assert kernel.compiled is not None
    loop = sass_loop(kernel.compiled.code)
    assert loop["wgmma"] > 0, "swapped operands multiply by warpgroups, weights in registers"
    assert loop["local"] == 0
    assert loop["global"] == 0, "words, activations and scales are all copied ahead"
    assert loop.total * 4 * 32 / (64 * 256) <= 3.0
    assert "HGMMA" in disassemble(kernel.compiled.code)


@pytest.mark.parametrize(("weight", "values", "block_k", "bits"), [("u4:128", 4, 256, 4), ("bcq3:128", 16, 512, 1)])
def test_codes_multiplied_as_they_lie_take_fewer(
    executor: CompileExecutor, weight: str, values: int, block_k: int, bits: int
) -> None:
    """Of planes of binary-coded weights, as many for each."""
    changes = {"method": "raw", "scale": "late", "values": values, "block_m": 8, "block_n": 128, "block_k": block_k,
               "contiguous": "n", "warps": 4, "stages": 3, "split": 2, "reduce": "last"}  # fmt: skip
    text = f"matmul m=1 n=4096 k=4096 act=f16 weight={weight} compute=f16"
    (kernel,) = Program.of(build(executor, text, **changes)).kernels
    assert kernel.compiled is not None
    loop = sass_loop(kernel.compiled.code)
    assert loop["local"] == 0
    assert loop["global"] == 0, "words, activations and scales are all copied ahead"
    assert loop["convert"] == 0
    assert dict(kernel.launch.constants)["bits"] == bits
    assert loop.total * 4 * 32 / (128 * block_k) <= 2.0


@pytest.mark.parametrize(("m", "most"), [(64, 3.1), (128, 3.3)])
def test_a_batch_takes_each_code_out_once(executor: CompileExecutor, m: int, most: float) -> None:
    """The default's tile has all rows; its loop multiplies by warpgroups and waits for nothing in device memory."""
    text = f"matmul m={m} n=11008 k=4096 act=bf16 weight=u4:128 compute=bf16"
    kernel, _ = Program.of(build(executor, text)).kernels
    assert kernel.compiled is not None
    constants, loop = dict(kernel.launch.constants), sass_loop(kernel.compiled.code)
    assert constants["block_m"] == m
    assert (loop["local"], loop["global"], kernel.compiled.resources.spills) == (0, 0, 0)
    warps = kernel.launch.warps
    assert loop["wgmma"] == constants["block_n"] // (16 * warps) * constants["block_k"] // 16, "no product twice"
    assert loop.total * warps * 32 / (constants["block_n"] * constants["block_k"]) <= most
    assert waits_for_products(kernel.compiled.code) <= 2, "one a pass, not one an instruction"


def test_more_programs_fit_beside_each_other_if_threads_take_few_registers(executor: CompileExecutor) -> None:
    """K in two even parts: left alone, the assembler takes 137 registers, so that three fit."""
    text = "matmul m=16 n=28672 k=8192 act=bf16 weight=u4:128 compute=bf16"
    (kernel,) = Program.of(build(executor, text)).kernels
    assert kernel.compiled is not None
    assert dict(kernel.launch.constants)["parts"] == 2
    assert (kernel.compiled.resources.registers, kernel.compiled.resources.spills) == (96, 0)
    fits = occupancy(kernel.compiled.resources, kernel.compiled.threads, kernel.compiled.shared, TARGETS["sm_90"])
    assert fits.blocks == 5


def waits_for_products(cubin: bytes) -> int:
    return disassemble(cubin).count("WARPGROUP.DEPBAR")


@pytest.mark.parametrize("settle", [True, False])
def test_products_that_fly_on_over_a_loops_edge_are_made_one_by_one(executor: CompileExecutor, settle: bool) -> None:
    """What the assembler does, and the reason for ``settle``."""
    text = "matmul m=128 n=11008 k=4096 act=bf16 weight=u4:128 compute=bf16"
    kernel, _ = Program.of(build(executor, text, settle=settle)).kernels
    assert kernel.compiled is not None
    assert (waits_for_products(kernel.compiled.code) >= sass_loop(kernel.compiled.code)["wgmma"]) is not settle


@pytest.mark.parametrize(
    ("text", "changes", "instruction"),
    [
        ("matmul m=512 n=4096 k=4096 act=bf16 weight=bf16", {}, "HGMMA"),
        ("matmul m=512 n=4096 k=4096 act=f8e4m3 weight=f8e4m3 epilogue=y*b0", {}, "QGMMA"),
        ("matmul m=512 n=4096 k=4096 act=i8 weight=i8", {}, "IGMMA"),
        ("attention heads=8 q=512 kv=512 dim=64 act=f16 causal=true", {"split": 1}, "HGMMA"),
    ],
)
def test_dense_tiles_multiply_by_warpgroups(
    executor: CompileExecutor, text: str, changes: dict[str, Value], instruction: str
) -> None:
    (kernel,) = Program.of(build(executor, text, **changes)).kernels
    assert kernel.compiled is not None
    loop = sass_loop(kernel.compiled.code)
    assert loop["wgmma"] > 0
    assert loop["local"] == 0
    assert instruction in disassemble(kernel.compiled.code)
    assert waits_for_products(kernel.compiled.code) < loop["wgmma"]


def test_blocks_of_a_pattern_are_copied_ahead(executor: CompileExecutor) -> None:
    text = "attention heads=8 kv_heads=2 q=512 kv=512 dim=64 act=bf16 causal=true pattern=slash:64:8"
    (kernel,) = Program.of(build(executor, text, split=1)).kernels
    assert kernel.compiled is not None
    loop = sass_loop(kernel.compiled.code)
    assert loop["copy"] > 0
    assert (loop["local"], loop["global"], kernel.compiled.resources.spills) == (0, 0, 0)


@pytest.mark.parametrize(
    ("algorithm", "weight", "instruction"),
    [("integer", "u8:row", "IGMMA"), ("fp8", "f8e4m3:row compute=f8e4m3", "QGMMA")],
)
def test_activations_rounded_to_bytes_are_multiplied_by_warpgroups(
    executor: CompileExecutor, algorithm: str, weight: str, instruction: str
) -> None:
    """One scale a row waits for the end, so that the loop does little but multiply."""
    changes = {"algorithm": algorithm, "method": "convert", "scale": "late", "values": 1, "block_k": 128,
               "block_m": 128, "block_n": 128, "warps": 8, "split": 1, "reduce": "launch"}  # fmt: skip
    text = f"matmul m=128 n=4096 k=4096 act=bf16 weight={weight}"
    quantise, product = Program.of(build(executor, text, **changes)).kernels
    assert quantise.launch.template == "lowbit:quantise"
    assert product.compiled is not None
    loop = sass_loop(product.compiled.code)
    assert (loop["local"], loop["convert"], loop["global"]) == (0, 0, 0)
    assert instruction in disassemble(product.compiled.code)
    assert loop.total * 8 * 32 / (128 * 128) <= 2.0


def test_a_split_product_is_two_launches_that_go_through_the_store(executor: CompileExecutor) -> None:
    artifact = build(executor, FOUR_BITS, split=4, reduce="launch", overlap=True)
    store = MemoryStore()
    program = Program.of(store.get_artifact(store.put_artifact(artifact)))
    assert program == Program.of(artifact)
    assert [k.launch.template for k in program.kernels] == ["lowbit:matmul", "sums:finish"]
    assert [s.name for s in program.scratch] == ["parts"]
    assert [k.launch.dependent for k in program.kernels] == [False, True]
    codes = [disassemble(k.compiled.code) for k in program.kernels if k.compiled is not None]
    assert ["PREEXIT" in code for code in codes] == [True, False], "the first lets the second begin"
    assert ["ACQBULK" in code for code in codes] == [False, True], "which waits for it"
    assert '"threads": 128' in program.abi_json()
    assert '"code"' not in program.abi_json()


def test_what_the_compiler_refuses_is_a_typed_failure(executor: CompileExecutor) -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse(FOUR_BITS)
    broken = backend.default(workload, device).as_dict() | {"block_n": 48}  # no power of two, and no point of the space
    candidate = Candidate(workload, device, type(backend.default(workload, device)).of(**broken))
    with executor.open(workload, MeasurePolicy(timeout=120.0), seed=0) as session:
        (result,) = session.build([candidate])
    assert result.failure is not None
    assert result.failure.outcome is Outcome.COMPILE_ERROR
    assert "power of 2" in result.failure.message
