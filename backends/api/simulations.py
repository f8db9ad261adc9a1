"""What a model of hardware answers where it is asked outside of a job."""

from __future__ import annotations

import attrs

from fettle.backends.api.measurements import Basis
from fettle.backends.api.spaces import Schedule
from fettle.backends.api.values import Pairs, sorted_pairs, strings


@attrs.frozen
class Simulation:
    """What a model of hardware says about one schedule or command trace; what ``fettle simulate`` prints.

    Attributes:
        cycles: of the device's clock, from the first command to the last result.
        seconds: the same as time.
        schedule: every parameter with its value; empty for a trace, which has none.
        commands: name of a command -> how many were issued, on all channels together.
        dram_bytes: bytes moved into or out of DRAM arrays or devices.
        energy: joules from per-command constants, or None where the model has none.
        basis: SIMULATED, or ESTIMATED where a vendor's tool said so instead of a model of ours.
        counters: further figures that are the model's own (``compute_cycles``).
        offsets: tensor -> byte at which it lies in the scratchpad; empty where nothing is planned.
        trace: the commands, one a line as the device reads them back; empty unless asked for.
    """

    cycles: int
    seconds: float
    schedule: Schedule = Schedule()
    commands: Pairs = attrs.field(default=(), converter=sorted_pairs)
    dram_bytes: int = 0
    energy: float | None = None
    basis: Basis = Basis.SIMULATED
    counters: Pairs = attrs.field(default=(), converter=sorted_pairs)
    offsets: Pairs = attrs.field(default=(), converter=sorted_pairs)
    trace: tuple[str, ...] = attrs.field(default=(), converter=strings, repr=False)
