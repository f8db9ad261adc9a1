"""Programs as the compiler would make them, without compiling."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.backends.api import Artifact, Candidate
from fettle.backends.triton.assembly import Loop
from fettle.backends.triton.compiler import Compiled
from fettle.backends.triton.plan import Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.program import ABI, CODE, Kernel, Program
from fettle.backends.triton.resources import Resources
from fettle.graph import codec

BYTES = 1e8


def kernel(
    *,
    template: str = "elementwise:x0*0.125",
    arguments: Sequence[Argument] = (),
    programs: int = 1320,
    bytes: float = BYTES,
    flops: float = 0.0,
    trips: float = 1.0,
    warps: int = 4,
    stages: int = 1,
    registers: int = 32,
    spills: int = 0,
    shared: int = 0,
    instructions: int = 100,
    wgmma: int = 0,
    flying: bool = True,
    left_shared: float = 0.0,
    exponentials: float = 0.0,
) -> Kernel:
    """One launch that makes about its ``bytes`` of traffic."""
    work = Work(
        bytes, flops, "half" if flops else "", trips, flying=flying, left_shared=left_shared, exponentials=exponentials
    )
    launch = Launch(template, tuple(arguments), (), (programs, 1, 1), work, warps, stages)
    compiled = Compiled(
        code=b"machine code",
        name=template,
        threads=32 * warps,
        shared=shared,
        scratch=0,
        resources=Resources(registers, spills),
        loop=Loop(instructions, (("other", instructions - wgmma), ("wgmma", wgmma))),
    )
    return Kernel(launch, compiled)


def program(*kernels: Kernel, scratch: Sequence[Scratch] = ()) -> Program:
    """Kernels in order, for sm_90."""
    return Program("sm_90", kernels, tuple(scratch))


def artifact(candidate: Candidate, made: Program, family: str = "rows") -> Artifact:
    """A program as an artifact."""
    return Artifact(
        payload=codec.dumps(made),
        kind=CODE,
        abi=ABI,
        entry=made.kernels[-1].launch.template,
        workload=str(candidate.workload),
        schedule=candidate.schedule,
        isa=("sm_90",),
        facts={"family": family},
    )


def compiled_as(plan: Plan) -> Program:
    """A plan's launches with stand-ins for their code."""
    kernels = [
        Kernel(launch, kernel(template=launch.template, warps=launch.warps).compiled) for launch in plan.launches
    ]
    return program(*kernels, scratch=plan.scratch)
