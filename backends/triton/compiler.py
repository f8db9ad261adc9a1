"""Compiles launches ahead of time, without a GPU. Runs in a worker: compilers may hang, crash or eat memory."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

import attrs

from fettle.backends.triton.assembly import Loop, main_loop
from fettle.backends.triton.constants import arguments
from fettle.backends.triton.plan import Launch
from fettle.backends.triton.resources import Resources, of_cubin, of_hsaco
from fettle.backends.triton.targets import Target
from fettle.graph.errors import BuildFailure

DIVISIBILITY = 16
"""Bytes that every pointer is aligned to, and what Triton is told of sizes that are multiples of it."""


@attrs.frozen
class Compiled:
    """A kernel as a GPU loads it.

    Attributes:
        code: cubin or hsaco.
        name: of the entry.
        threads: of a block.
        shared: bytes of dynamic shared memory.
        scratch: bytes of device memory a block wants for itself (Triton's global and profile scratch), 0 here.
        loop: instruction counts of the main loop in the text Triton hands to the assembler (PTX, or AMD's assembly).
    """

    code: bytes = attrs.field(repr=False)
    name: str
    threads: int
    shared: int
    scratch: int
    resources: Resources
    loop: Loop


def toolchain() -> str:
    """What builds artifacts here."""
    return f"triton-{metadata.version('triton')}"


def compile_launch(launch: Launch, target: Target) -> Compiled:
    """The machine code of one launch.

    Raises:
        BuildFailure: Triton or the assembler refuses.
    """
    import triton
    from triton import language
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = template(launch)
    names = function.arg_names
    constants = arguments(names, launch.constants, language.constexpr)
    signature = {a.parameter: a.type for a in launch.arguments} | dict.fromkeys(constants, "constexpr")
    aligned = [a.parameter for a in launch.arguments if a.source or a.value % DIVISIBILITY == 0]
    source = ASTSource(
        fn=function,
        signature={name: signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", DIVISIBILITY]] for name in aligned},
    )
    options: dict[str, Any] = {"num_warps": launch.warps, "num_stages": launch.stages}
    if launch.registers:
        options["maxnreg"] = launch.registers
    try:
        kernel = triton.compile(source, target=GPUTarget(target.kind, target.arch, target.warp), options=options)
    except Exception as error:  # Triton raises whatever it likes
        raise BuildFailure(f"{launch.template}: {complaint(error)}") from error
    found = kernel.metadata
    cuda = target.kind == "cuda"
    code = kernel.asm["cubin" if cuda else "hsaco"]
    text = kernel.asm["ptx" if cuda else "amdgcn"]
    return Compiled(
        code=bytes(code),
        name=found.name,
        threads=found.num_warps * target.warp,
        shared=found.shared,
        scratch=getattr(found, "global_scratch_size", 0) + getattr(found, "profile_scratch_size", 0),
        resources=of_cubin(bytes(code)) if cuda else of_hsaco(text),
        loop=main_loop(text),
    )


def template(launch: Launch) -> Any:
    """The kernel that a launch names."""
    module, _, name = launch.template.partition(":")
    return getattr(importlib.import_module(f"fettle.backends.triton.templates.{module}"), name)


def complaint(error: BaseException) -> str:
    """What a compiler says at bottom: Triton wraps an error in one for each call it is in, which quote the program."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return f"{type(error).__name__}: {' '.join(lines[-3:])[-500:]}"
