"""The mappings of a product onto a global buffer: what a schedule says, and what a textbook would."""

from __future__ import annotations

from fettle.backends.api import Constraint, Parameter, Space, Value
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.preset import Organisation
from fettle.backends.rounding import ceil_div

INPUT, OUTPUT = "input_stationary", "output_stationary"
PLACEMENTS = ("row", "by_output", "by_input")
"""Where segments go: a row each; packed, chunks of an output side by side; packed, outputs of a chunk side by side."""


def powers(limit: int) -> tuple[int, ...]:
    """Powers of two up to a limit, at least 1."""
    return tuple(1 << i for i in range(max(limit, 1).bit_length()))


def sharing(problems: int, channels: int) -> tuple[int, ...]:
    """How many channels may share one of a batch of problems: so many that few are idle; all share a single one."""
    if problems == 1:
        return (channels,)
    return tuple(c for c in powers(channels) if c * min(problems, channels) >= channels)


def parameters(gemv: Gemv, org: Organisation, prefix: str = "") -> tuple[list[Parameter], list[Constraint]]:
    """What a schedule of one product says; names start with ``prefix``.

    ``dataflow`` see above; ``split_k`` slices of K on different channels; ``problem_channels`` channels that share a
    problem; ``chunk`` buffer columns of a chunk; ``placement`` of segments; ``order`` of the output groups in
    successive chunks; ``interleave`` rows of x that use a segment while it is open; ``keep_buffer`` do not write the
    buffer again if it still holds the chunk.
    """
    lanes = 8 * org.column_bytes // gemv.bits
    needed = ceil_div(gemv.k, org.lanes)
    chunks = [c for c in powers(org.buffer_columns) if c * org.lanes >= lanes and 8 * c >= min(org.buffer_columns, 64)]
    chunks = [c for c in chunks if gemv.columns(c * org.lanes, org.column_bytes) <= org.columns]
    chunks = [c for i, c in enumerate(chunks) if i == 0 or chunks[i - 1] < needed]
    slices = [s for s in powers(min(org.channels, ceil_div(gemv.k, lanes))) if s <= org.channels]
    n = prefix
    found = [
        Parameter(f"{n}dataflow", (INPUT, OUTPUT)),
        Parameter(f"{n}split_k", tuple(slices)),
        Parameter(f"{n}problem_channels", sharing(gemv.problems, org.channels)),
        Parameter(f"{n}chunk", tuple(chunks)),
        Parameter(f"{n}placement", PLACEMENTS),
        Parameter(f"{n}order", ("forward", "serpentine")),
        Parameter(f"{n}interleave", powers(min(gemv.m, org.buffer_columns // chunks[0]))),
        Parameter(f"{n}keep_buffer", (False, True)),
    ]
    rules = [
        Constraint(f"{n}split_k <= {n}problem_channels", "slices of a problem are on different channels"),
        Constraint(f"{n}interleave * {n}chunk <= {org.buffer_columns}", "interleaved chunks share the buffer"),
        Constraint(
            f"{n}dataflow == '{INPUT}' or {n}interleave <= {org.accumulators}", "an accumulator for each row of x"
        ),
        Constraint(f"{n}dataflow == '{OUTPUT}' or not {n}keep_buffer", "input stationary writes every chunk once"),
        Constraint(f"{n}dataflow == '{INPUT}' or {n}order == 'forward'", "the order changes between chunks"),
    ]
    return found, rules


def textbook(gemv: Gemv, org: Organisation, prefix: str = "") -> dict[str, Value]:
    """Whole channels per problem as far as there are problems, the longest chunk, a row for each segment."""
    choices = Space(*parameters(gemv, org, prefix)).choices
    values: dict[str, Value] = {name: options[0] for name, options in choices.items()}
    values[f"{prefix}chunk"] = choices[f"{prefix}chunk"][-1]
    return values
