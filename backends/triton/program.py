"""Artifacts of this backend: a plan with the machine code of its launches, or, for the interpreter, without."""

from __future__ import annotations

import json

import attrs

from fettle.backends.api import Artifact, Candidate, Value
from fettle.backends.triton.compiler import Compiled, compile_launch, toolchain
from fettle.backends.triton.plan import Launch, Plan, Scratch, main_launch
from fettle.backends.triton.targets import Target
from fettle.graph import codec
from fettle.graph.errors import Unsupported

CODE = "triton-program"
"""Artifacts that a GPU loads."""
PLAN = "triton-plan"
"""Artifacts that only the interpreter runs."""
ABI = "fettle-triton-1"
"""Arguments in the launch's order, then Triton's two scratch pointers (null); block = ``threads``."""


@attrs.frozen
class Kernel:
    """One launch and its machine code; None for the interpreter."""

    launch: Launch
    compiled: Compiled | None = None


@attrs.frozen
class Program:
    """What the payload of an artifact is, in the canonical encoding."""

    target: str
    kernels: tuple[Kernel, ...]
    scratch: tuple[Scratch, ...]

    @classmethod
    def of(cls, artifact: Artifact) -> Program:
        """The program of an artifact.

        Raises:
            Unsupported: the artifact is of another backend or version.
            InvalidArgument: its payload is damaged.
        """
        if artifact.kind not in (CODE, PLAN) or artifact.abi != ABI:
            raise Unsupported(f"the artifact is {artifact.kind} with ABI {artifact.abi}, not {CODE} with {ABI}")
        return codec.loads(cls, artifact.payload)

    def abi_json(self) -> str:
        """Everything a loader in another language needs besides the code, as JSON: one object a launch."""
        data = codec.to_data(self)
        for kernel in data["kernels"]:
            if kernel["compiled"] is not None:
                kernel["compiled"].pop("code")
        return json.dumps(data, indent=1)


def build(candidate: Candidate, plan: Plan, target: Target, family: str, *, interpreted: bool) -> Artifact:
    """Compile all launches of a plan. Raises BuildFailure."""
    compiled = [None if interpreted else compile_launch(launch, target) for launch in plan.launches]
    kernels = tuple(Kernel(*pair) for pair in zip(plan.launches, compiled, strict=True))
    program = Program(target.name, kernels, plan.scratch)
    return Artifact(
        payload=codec.dumps(program),
        kind=PLAN if interpreted else CODE,
        abi=ABI,
        entry=plan.launches[-1].template,
        workload=str(candidate.workload),
        schedule=candidate.schedule,
        weight_layout=plan.weight_layout,
        toolchain="triton-interpreter" if interpreted else toolchain(),
        isa=() if interpreted else (target.name,),
        facts={"family": family, **_facts(program)},
    )


def _facts(program: Program) -> dict[str, Value]:
    """Static facts of the main launch, for people and cost models."""
    main = main_launch([kernel.launch for kernel in program.kernels])
    code = next(kernel.compiled for kernel in program.kernels if kernel.launch is main)
    facts: dict[str, Value] = {"launches": len(program.kernels), "programs": main.programs}
    if code is not None:
        facts["registers"], facts["spills"] = code.resources.registers, code.resources.spills
        facts["shared"], facts["loop_instructions"] = code.shared, code.loop.total
        facts.update((f"loop_{kind}", count) for kind, count in code.loop.counts)
    return facts
