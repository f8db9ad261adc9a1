"""The mappings of a product onto register files: what a schedule says, and what a textbook would."""

from __future__ import annotations

from fettle.backends.api import Constraint, Parameter, Value
from fettle.backends.pim.bufferspace import INPUT, OUTPUT, powers, sharing
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.preset import Organisation
from fettle.backends.rounding import ceil_div


def parameters(gemv: Gemv, org: Organisation, prefix: str = "") -> tuple[list[Parameter], list[Constraint]]:
    """What a schedule of one product says; names start with ``prefix``.

    ``dataflow``: keep accumulators or inputs. ``tiles``: all even tiles first, or even and odd ones in turns.
    ``placement``: a tile in one bank of a unit, or half of it in each. ``register_bank``: write registers through the
    odd bank, or through the one that is not read next. ``prefetch``: while the last columns of a row are read, open
    the row of the other bank that comes next. ``split_k``: slices of K on different channels, of two tiles at least.
    ``problem_channels``: channels that share a problem.
    """
    n, needed = prefix, ceil_div(gemv.n, org.accumulators * org.units)
    slices = powers(min(org.channels, gemv.k // (2 * org.buffer_columns * org.lanes)))
    shared = sharing(gemv.problems, org.channels)
    found = [
        Parameter(f"{n}dataflow", (OUTPUT, INPUT)),
        Parameter(f"{n}tiles", ("even_first", "in_turns")),
        Parameter(f"{n}placement", ("bank", "halves")),
        Parameter(f"{n}register_bank", ("odd", "other")),
        Parameter(f"{n}prefetch", (False, True)),
        Parameter(f"{n}split_k", slices),
        Parameter(f"{n}problem_channels", shared),
    ]
    rules = [
        Constraint(f"{n}split_k <= {n}problem_channels", "slices of a problem are on different channels"),
        Constraint(
            f"{n}problem_channels == {shared[0]} or {n}problem_channels < {2 * needed} * {n}split_k",
            "channels have outputs to work on",
        ),
    ]
    return found, rules


def textbook(gemv: Gemv, org: Organisation, prefix: str = "") -> dict[str, Value]:
    """As the open kernel does it; whole channels per problem as far as there are problems."""
    return {parameter.name: parameter.choices[0] for parameter in parameters(gemv, org, prefix)[0]}
