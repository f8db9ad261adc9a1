"""A matrix-vector product on units of either kind: what a schedule says of it, its commands, and their execution."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from fettle.backends.api import Constraint, Parameter, Schedule, Value
from fettle.backends.pim import bufferprogram, bufferspace, globalbuffer, registers, registerspace, registerunits
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.gemv import Gemv
from fettle.backends.pim.mapping import Array
from fettle.backends.pim.modes import PARK_ROW
from fettle.backends.pim.program import Builder, Program


def parameters(gemv: Gemv, hardware: Hardware, prefix: str = "") -> tuple[list[Parameter], list[Constraint]]:
    """What a schedule says of a product; names start with ``prefix``."""
    if hardware.is_global_buffer:
        return bufferspace.parameters(gemv, hardware.organisation, prefix)
    return registerspace.parameters(gemv, hardware.organisation, prefix)


def textbook(gemv: Gemv, hardware: Hardware, prefix: str = "") -> dict[str, Value]:
    """A schedule of a product as a textbook has it."""
    if hardware.is_global_buffer:
        return bufferspace.textbook(gemv, hardware.organisation, prefix)
    return registerspace.textbook(gemv, hardware.organisation, prefix)


def rows_for_weights(hardware: Hardware) -> int:
    """DRAM rows of a bank that a mapping may use."""
    return hardware.organisation.rows if hardware.is_global_buffer else PARK_ROW


def most_rows(gemv: Gemv, hardware: Hardware) -> int:
    """DRAM rows of a bank that the mapping of a product takes that needs the most."""
    if hardware.is_global_buffer:
        return globalbuffer.most_rows(gemv, hardware.organisation)
    return registers.most_rows(gemv, hardware.organisation)


def stored(weight: Array, hardware: Hardware) -> Array:
    """Weights ``[problems, n, k]`` as units take them: float32, in panels where a global buffer feeds them."""
    if not hardware.is_global_buffer:
        return np.ascontiguousarray(weight, np.float32)
    from fettle.backends.pim.bufferunits import panels  # loads Numba

    return panels(weight)


@attrs.frozen(eq=False)
class Placed:
    """A product whose commands are in a program.

    Attributes:
        rows: the first DRAM row after those it uses.
        multiply: (program, x ``[problems, m, k]`` float32, :func:`stored` weights) -> ``[problems, m, n]`` float32, by
            executing its commands.
        read_results: appends what the host reads where results are left in the banks; elsewhere it has them.
    """

    rows: int
    multiply: Callable[[Program, Array, Array], Array]
    read_results: Callable[[Builder], None]


def place(
    gemv: Gemv, hardware: Hardware, schedule: Schedule, builder: Builder, prefix: str = "", first_row: int = 0
) -> Placed:
    """Append the commands of a product; its weights lie from ``first_row`` on."""
    if hardware.is_global_buffer:
        from fettle.backends.pim.bufferunits import execute  # loads Numba

        plan = globalbuffer.Plan.of(gemv, hardware.organisation, schedule, prefix, first_row)
        notes = bufferprogram.emit(plan, builder)
        return Placed(plan.rows, lambda program, x, w: execute(plan, program, notes, x, w), lambda _: None)
    tiles = registers.Plan.of(gemv, hardware.organisation, schedule, prefix, first_row)
    part = tiles.emit(builder)
    return Placed(
        tiles.rows, lambda program, x, w: registerunits.execute(tiles, program, part, x, w), tiles.read_results
    )
