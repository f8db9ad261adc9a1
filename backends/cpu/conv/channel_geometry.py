"""Extents of a convolution kernel with output channels in the lanes."""

from __future__ import annotations

import math

import attrs

from fettle.backends.api import Device, Schedule
from fettle.backends.cpu.conv.geometry import Geometry
from fettle.graph.workload import Workload


@attrs.frozen
class ChannelGeometry(Geometry):
    """Panels of ``micro_oc`` channels are whole vectors; ``micro_n`` outputs of a register tile are spread elements.

    A register tile is a part of a row of outputs, or whole rows if it has more outputs than a row. Nothing lies between
    the outputs of a band, and all input channels are added in registers.
    """

    @property
    def vectors(self) -> int:
        """Vectors of channels in a panel."""
        return self.micro_oc // self.lanes

    @property
    def across(self) -> int:
        """Outputs of a band that lie in the input as near to one another as in y: its rows are one row in place."""
        return self.run if self.in_place else self.columns

    @property
    def down(self) -> int:
        """Rows of that many outputs in a band."""
        return self.run // self.across

    @property
    def tile_columns(self) -> int:
        """Outputs of a register tile in one row."""
        return min(self.micro_n, self.across)

    @property
    def tile_rows(self) -> int:
        """Rows of a register tile."""
        return self.micro_n // self.tile_columns

    @property
    def groups_across(self) -> int:
        """Register tiles of a row."""
        return math.ceil(self.across / self.tile_columns)

    @property
    def groups(self) -> int:
        """Register tiles of a band."""
        return math.ceil(self.down / self.tile_rows) * self.groups_across

    @property
    def run(self) -> int:
        """Outputs of a band."""
        return self.tile_h * self.columns

    def distance(self, row: int, column: int) -> int:
        """How far the input of an output of a register tile lies behind that of its first."""
        return row * self.plane_columns + column

    @property
    def padded_run(self) -> int:
        """The same, in squares of as many outputs as channels."""
        return math.ceil(self.run / self.lanes) * self.lanes

    @property
    def held(self) -> int:
        """Panels whose sums are kept before they are written."""
        return self.tile_oc if self.weights_inside else 1

    @property
    def input_size(self) -> int:
        """Elements of a task's copied input."""
        return self.c * self.channel

    @property
    def output_size(self) -> int:
        """Elements of a task's sums."""
        return self.held * self.micro_oc * self.padded_run

    @property
    def contested(self) -> int:
        """As with pixels in the lanes; here, threads meet wherever bands of an image go to different ones."""
        is_cut = self.threads > 1 and self.share % (self.bands * self.oc_tiles) > 0
        return self.oc if is_cut and self.bands > 1 else 0

    @property
    def finishing(self) -> int:
        """A store and a load, log2(lanes) exchanges with other vectors, and a store to y."""
        return 3 + int(math.log2(self.lanes))


def geometry_of(workload: Workload, schedule: Schedule, device: Device) -> Geometry:
    """Extents of the kernel of a schedule, whatever its lanes hold."""
    kind = ChannelGeometry if schedule["lanes"] == "channels" else Geometry
    return kind.of(workload, schedule, device)
