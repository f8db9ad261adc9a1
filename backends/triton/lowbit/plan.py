"""A schedule of a product with low-bit weights as launches."""

from __future__ import annotations

import attrs

from fettle.backends.api import Schedule
from fettle.backends.triton.epilogue import epilogue_arguments, epilogue_bytes
from fettle.backends.triton.finish import finish
from fettle.backends.triton.lowbit.constants import adds_parts, constants, is_whole, rounds_activations
from fettle.backends.triton.lowbit.layouts import WeightLayout
from fettle.backends.triton.lowbit.packing import layout_name, stack, weight_layout
from fettle.backends.triton.lowbit.product import Product
from fettle.backends.triton.lowbit.spaces import HALFWORDS
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.targets import Target
from fettle.graph.workload import Workload

_ROUNDED = {"integer": "i8", "fp8": "fp8e4nv"}
"""What activations are rounded to before the product, per row and group."""
_UNITS = {"float": "half", "integer": "int8", "fp8": "fp8"}
"""Which tensor units an algorithm multiplies with."""


def make(workload: Workload, schedule: Schedule, target: Target) -> Plan:
    """Activations to bytes, if the algorithm wants them so; the product; the sum of its parts, if K is split."""
    p = Product.of(workload)
    layout = weight_layout(p, schedule)
    overlap = schedule["overlap"]
    launches = [_product(workload, p, schedule, layout, target)]
    scratch = []
    if rounds_activations(schedule):
        rounded = _ROUNDED[schedule["algorithm"]]
        launches.insert(0, _quantise(p, rounded, overlap))
        groups = p.weight.groups(p.k)
        scratch += [Scratch("x", rounded, p.m * p.k), Scratch("x_scale", "fp32", groups * p.m)]
    if not is_whole(schedule):
        parts = schedule["split"]
        scratch.append(Scratch("parts", "fp32", parts * p.m * p.n, zeroed=schedule["order"] == "stream"))
        if adds_parts(schedule):
            launches.append(finish(p.m * p.n, parts, ELEMENT[p.out], dependent=overlap))
        else:
            scratch.append(Scratch("counts", "i32", launches[-1].grid[0], kept=True))
    return Plan(tuple(launches), tuple(scratch), layout_name(workload, schedule))


def _product(workload: Workload, p: Product, schedule: Schedule, layout: WeightLayout, target: Target) -> Launch:
    block_m, block_n, block_k, split = (schedule[name] for name in ("block_m", "block_n", "block_k", "split"))
    tiles_m, tiles_n, blocks = -(-p.m // block_m), -(-p.n // block_n), p.k // block_k * stack(p, schedule)
    if schedule["order"] == "stream":
        share = max(1, -(-tiles_m * tiles_n * blocks // target.multiprocessors))
        grid = (-(-tiles_m * tiles_n * blocks // share), 1, 1)
    else:
        share = 0
        grid = (tiles_m * tiles_n, split, 1)
    weight_bytes = p.n * p.k * p.weight.bits_per_weight(p.k) / 8
    result = p.m * p.n * (2 if is_whole(schedule) else 4 * split)
    weight_reads = tiles_m if weight_bytes > target.l2 else 1
    return Launch(
        "lowbit:matmul" if workload["epilogue"] is None else f"fused_lowbit:{workload['epilogue']}",
        (*_arguments(p, schedule, layout), *_epilogue(workload, p, layout), Argument("M", "i32", value=p.m)),
        constants(p, schedule, layout, share),
        grid,
        Work(
            bytes=weight_bytes * weight_reads + 2 * p.m * p.k + result + epilogue_bytes(workload),
            flops=2.0 * tiles_m * block_m * tiles_n * block_n * blocks * block_k,
            unit=_UNITS[schedule["algorithm"]],
            trips=share or -(-blocks // split),
            gathered=4.0 * split * block_m * block_n if schedule["reduce"] == "last" else 0.0,
            left_shared=0.0 if schedule["swap"] else 1.0,
        ),
        warps=schedule["warps"],
        stages=schedule["stages"],
        registers=schedule["registers"],
        dependent=schedule["overlap"] and rounds_activations(schedule),
    )


def _arguments(p: Product, schedule: Schedule, layout: WeightLayout) -> tuple[Argument, ...]:
    planes = layout.planes
    words = [f"*u{plane.container}" for plane in planes]
    halfwords = schedule["method"] in HALFWORDS
    scale_type = "u32" if halfwords and p.weight.scale != "f32" else ELEMENT.get(p.weight.scale, "u8")
    scales = Argument("scale_ptr", f"*{scale_type}", f"packed:{len(planes)}")
    after_scales = f"packed:{len(planes) + 1}"  # zero points or the tensor's scale: no format has both
    rounded = _ROUNDED.get(schedule["algorithm"])

    def when(used: object, parameter: str, kind: str, source: str) -> Argument:
        """A pointer or, where the kernel's constants keep it from following one, that of the scales."""
        return Argument(parameter, kind, source) if used else attrs.evolve(scales, parameter=parameter)

    return (
        Argument("x_ptr", f"*{rounded or ELEMENT[p.act]}", "scratch:x" if rounded else "input:0"),
        when(rounded, "x_scale_ptr", "*fp32", "scratch:x_scale"),
        Argument("low_ptr", words[0], "packed:0"),
        Argument("high_ptr", words[-1], f"packed:{len(planes) - 1}"),
        scales,
        when(p.weight.zero_points, "zero_ptr", "*u32" if halfwords else "*u8", after_scales),
        when(p.weight.has_tensor_scale, "tensor_ptr", "*fp32", after_scales),
        when(not is_whole(schedule), "part_ptr", "*fp32", "scratch:parts"),
        when(schedule["reduce"] == "last", "count_ptr", "*i32", "scratch:counts"),
        Argument("out_ptr", f"*{ELEMENT[p.out]}", "out"),
    )


def _epilogue(workload: Workload, p: Product, layout: WeightLayout) -> list[Argument]:
    weight = len(layout.planes) + 1 + p.weight.zero_points + p.weight.has_tensor_scale
    return epilogue_arguments(workload, 1, weight)


def _quantise(p: Product, rounded: str, releases: bool) -> Launch:
    groups = p.weight.groups(p.k)
    block = 1 << (p.group - 1).bit_length()
    return Launch(
        "lowbit:quantise",
        (
            Argument("x_ptr", f"*{ELEMENT[p.act]}", "input:0"),
            Argument("code_ptr", f"*{rounded}", "scratch:x"),
            Argument("scale_ptr", "*fp32", "scratch:x_scale"),
            Argument("M", "i32", value=p.m),
        ),
        (("K", p.k), ("GROUP", p.group), ("BLOCK", block), ("RELEASES", releases)),
        (p.m, groups, 1),
        Work(bytes=3.0 * p.m * p.k),
        warps=1 if block <= 256 else 4,
        stages=1,
    )
