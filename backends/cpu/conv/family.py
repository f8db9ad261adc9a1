"""The kernel family ``conv``: what its parameters mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from fettle.backends.api import Candidate, Schedule
from fettle.backends.cpu.conv import spaces
from fettle.backends.cpu.conv.channel_geometry import ChannelGeometry, geometry_of
from fettle.backends.cpu.family import Family, Lowered, Spaces
from fettle.backends.cpu.pages import placed
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


class Conv(Family):
    """Direct convolution of NCHW tensors in f32, group by group.

    Parameters of a schedule:

    * ``lanes`` of a vector: neighbouring outputs of a row, ``pixels``, or output ``channels``.
    * ``micro_oc`` output channels by ``micro_n`` output elements make a register tile.
    * ``tile_h`` output rows, ``tile_oc`` panels of channels make a task; ``tile_c`` input channels at a time.
    * ``inner``: whether a task's innermost loop is over panels of ``weights`` or along the ``inputs``.
    * ``input``: copied to padded ``planes``, or read ``in_place`` by filters of one tap.
    * ``threads``.
    * ``pages`` of the packed filters: what the ``system`` gives, or ``huge`` ones.
    """

    name: ClassVar[str] = "conv"
    operators: ClassVar[tuple[str, ...]] = ("conv2d",)
    spaces: ClassVar[Spaces] = spaces

    def lower(self, candidate: Candidate) -> Lowered:
        from fettle.backends.cpu.conv.kernel import emit

        geometry = geometry_of(candidate.workload, candidate.schedule, candidate.device)
        layout = self.weight_layout(candidate.workload, candidate.schedule)
        return Lowered(emit(geometry, candidate.device), (), layout)

    def weight_layout(self, workload: Workload, schedule: Schedule) -> str:
        return f"filters-o{schedule['micro_oc']}-f32:1"

    def pack(self, workload: Workload, schedule: Schedule, constants: Sequence[Operand]) -> tuple[np.ndarray, ...]:
        """``[OC, C, KH, KW]`` to ``[panels, C, KH·KW, micro_oc]``, then the rows.

        A group of g channels has ceil(g / micro_oc) panels, zeros beyond its last channel. C is that of a group.
        """
        weight, *rows = (np.asarray(c) for c in constants)
        micro_oc, (_, c, kh, kw), group = schedule["micro_oc"], weight.shape, workload["group"]
        oc = workload["oc"] // group
        panels = math.ceil(oc / micro_oc)
        padded = np.zeros((group, panels * micro_oc, c, kh * kw), np.float32)
        padded[:, :oc] = weight.reshape(group, oc, c, kh * kw)
        packed = padded.reshape(group * panels, micro_oc, c, kh * kw).transpose(0, 2, 3, 1)
        return placed([np.ascontiguousarray(x) for x in (packed, *rows)], str(schedule.get("pages", "system")))

    def features(self, candidate: Candidate) -> Mapping[str, float]:
        g = geometry_of(candidate.workload, candidate.schedule, candidate.device)
        spread, vectors = (g.micro_n if isinstance(g, ChannelGeometry) else g.micro_oc), g.vectors
        words = {
            "input": g.input_size,
            "sums": g.output_size,
            "panel": g.tile_c * g.taps * g.micro_oc,
            "weights": g.tile_oc * g.tile_c * g.taps * g.micro_oc,
        }
        return {
            **{f"log_{name}_bytes": math.log2(4 * count) for name, count in words.items()},
            "accumulators": float(spread * vectors),
            "fma_per_load": spread * vectors / (spread + vectors),
            "efficiency": g.efficiency,
            "halo": g.plane_rows / g.tile_h,
            "c_blocks": float(g.c_blocks),
            "log_tasks": math.log2(g.tasks),
            "log_threads": math.log2(g.threads),
            "weights_inside": float(g.weights_inside),
            "huge_pages": float(candidate.schedule.get("pages") == "huge"),
            "in_place": float(g.in_place),
            "channel_lanes": float(isinstance(g, ChannelGeometry)),
            "log_finishing_per_product": math.log2(g.finishing / (g.c * g.taps)),
        }
