"""A schedule of a product with low-bit weights as launches, and its weight as packed arrays."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.backends.api import Schedule, Value
from fettle.backends.triton.epilogue import epilogue_arguments, epilogue_bytes
from fettle.backends.triton.finish import finish
from fettle.backends.triton.lowbit import spread
from fettle.backends.triton.lowbit.layouts import WeightLayout
from fettle.backends.triton.lowbit.spaces import HALFWORDS, LOW_PLANE, Product
from fettle.backends.triton.lowbit.stacking import stacked
from fettle.backends.triton.plan import ELEMENT, Argument, Launch, Plan, Scratch, Work
from fettle.backends.triton.targets import Target
from fettle.graph.formats import MINIFLOATS
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

_METHODS = {"convert": 0, "magic": 1, "ptx": 2, "raw": 3}
_ROUNDED = {"integer": "i8", "fp8": "fp8e4nv"}
"""What activations are rounded to before the product, per row and group."""
_UNITS = {"float": "half", "integer": "int8", "fp8": "fp8"}
"""Which tensor units an algorithm multiplies with."""
_SCALES = {"f16": 0, "f32": 0, "e8m0": 1, "e4m3": 2}
_SCALE_OF_64THS = 3
_SIGN = 1 << 7
"""The sign bit of fixed point."""
_MOST_FOLDED = 3
"""Bits of a minifloat's exponent up to which its product with f8e4m3 is exact in f16 and bf16."""


def make(workload: Workload, schedule: Schedule, target: Target) -> Plan:
    """Activations to bytes, if the algorithm wants them so; the product; the sum of its parts, if K is split."""
    p = Product.of(workload)
    layout = weight_layout(p, schedule)
    rounded = _ROUNDED.get(schedule["algorithm"])
    launches = [_product(workload, p, schedule, layout, target)]
    scratch = []
    if rounded:
        launches.insert(0, _quantise(p, rounded))
        groups = p.weight.groups(p.k)
        scratch += [Scratch("x", rounded, p.m * p.k), Scratch("x_scale", "fp32", groups * p.m)]
    if not _is_whole(schedule):
        parts = schedule["split"]
        scratch.append(Scratch("parts", "fp32", parts * p.m * p.n, zeroed=schedule["order"] == "stream"))
        if schedule["reduce"] == "last":
            scratch.append(Scratch("counts", "i32", launches[-1].grid[0], kept=True))
        else:
            launches.append(finish(p.m * p.n, parts, ELEMENT[p.out]))
    return Plan(tuple(launches), tuple(scratch), layout_name(workload, schedule))


def layout_name(workload: Workload, schedule: Schedule) -> str:
    """Id of the packed weight."""
    epilogue = workload["epilogue"]
    rows = f"-rows{epilogue.rows}" if epilogue is not None and epilogue.rows else ""
    return f"triton-{workload['weight']}-{weight_layout(Product.of(workload), schedule)}{rows}"


def weight_layout(p: Product, schedule: Schedule) -> WeightLayout:
    """Where the codes of a schedule lie."""
    bits = p.weight.bits
    low = LOW_PLANE[bits] if schedule["planes"] == "two" else bits
    whole = schedule["method"] in HALFWORDS
    if whole:
        bits = low = p.word_bits
    k = p.k * _stack(p, schedule)
    return WeightLayout.of(p.n, k, bits, schedule["values"], schedule["block_k"], schedule["contiguous"], low, whole)


def _stack(p: Product, schedule: Schedule) -> int:
    """Planes that lie one behind another along K."""
    return p.stack if schedule["method"] in HALFWORDS else 1


def pack(workload: Workload, schedule: Schedule, weight: QuantizedWeight) -> tuple[np.ndarray, ...]:
    """(codes of each plane, scales ``[groups, planes, N]``[, zero points ``[groups, N]``][, the tensor's scale]).

    In words of 16 bits, planes of binary-coded weights are stacked (:mod:`fettle.backends.triton.lowbit.stacking`).

    Beside words of 16 bits, scales and zero points (as f16) of neighbouring groups share words of 32 bits.
    """
    codes = weight.codes ^ np.uint8(_SIGN) if weight.format.is_fixed_point else weight.codes
    scales = weight.scales
    if weight.format.scale == "e4m3":  # kernels take them for positive; of minifloats, the sign is the top bit
        scales = np.abs(scales)
        codes = codes ^ weight.expand(np.signbit(weight.scales).astype(np.uint8) << (weight.format.bits - 1))
    p = Product.of(workload)
    if _stack(p, schedule) > 1:
        codes, scales = stacked(weight, max(p.group, schedule["block_k"]))
    arrays: list[np.ndarray] = list(weight_layout(p, schedule).pack(codes))
    if schedule["method"] in HALFWORDS:
        arrays.append(_shared_words(scales))
        if weight.zero_points is not None:
            arrays.append(_shared_words(weight.zero_points.astype(np.float16)))
        if weight.tensor_scale is not None:
            arrays.append(weight.tensor_scale)
        return tuple(arrays)
    scales = scales if scales.ndim == 3 else scales[:, :, None]
    arrays.append(_plain(np.ascontiguousarray(scales.transpose(1, 2, 0))))
    if weight.zero_points is not None:
        arrays.append(np.ascontiguousarray(weight.zero_points.T))
    if weight.tensor_scale is not None:
        arrays.append(weight.tensor_scale)
    return tuple(arrays)


def _shared_words(of_groups: NDArray[np.generic]) -> np.ndarray:
    """``[N, groups]`` as words of 32 bits ``[⌈groups / those in a word⌉, N]``, the first group lowest; f32 as it is."""
    if of_groups.dtype == np.float32:
        return np.ascontiguousarray(of_groups.T)
    shared = 4 // of_groups.dtype.itemsize
    bits = of_groups.view(f"u{of_groups.dtype.itemsize}")
    padded = np.pad(bits, ((0, 0), (0, -of_groups.shape[1] % shared)))
    return np.ascontiguousarray(np.ascontiguousarray(padded).view(np.uint32).T)


def _plain(scales: NDArray[np.generic]) -> np.ndarray:
    """Scales of one byte as bytes."""
    return scales.view(np.uint8) if scales.dtype.itemsize == 1 else scales


def _product(workload: Workload, p: Product, schedule: Schedule, layout: WeightLayout, target: Target) -> Launch:
    block_m, block_n, block_k, split = (schedule[name] for name in ("block_m", "block_n", "block_k", "split"))
    tiles_m, tiles_n, blocks = -(-p.m // block_m), -(-p.n // block_n), p.k // block_k * _stack(p, schedule)
    if schedule["order"] == "stream":
        share = max(1, -(-tiles_m * tiles_n * blocks // target.multiprocessors))
        grid = (-(-tiles_m * tiles_n * blocks // share), 1, 1)
    else:
        share = 0
        grid = (tiles_m * tiles_n, split, 1)
    weight_bytes = p.n * p.k * p.weight.bits_per_weight(p.k) / 8
    result = p.m * p.n * (2 if _is_whole(schedule) else 4 * split)
    weight_reads = tiles_m if weight_bytes > target.l2 else 1
    return Launch(
        "lowbit:matmul" if workload["epilogue"] is None else f"fused_lowbit:{workload['epilogue']}",
        (*_arguments(p, schedule, layout), *_epilogue(workload, p, layout), Argument("M", "i32", value=p.m)),
        (
            ("N", p.n),
            ("K", p.k),
            *_weight_constants(p, schedule, layout),
            ("SWAP", schedule["swap"]),
            ("BM", block_m),
            ("BN", block_n),
            ("BK", block_k),
            ("STAGES", schedule["stages"]),
            *_decoding_constants(p, schedule),
            ("PARTS", split),
            ("LAST", schedule["reduce"] == "last"),
            ("SHARE", share),
        ),
        grid,
        Work(
            bytes=weight_bytes * weight_reads + 2 * p.m * p.k + result + epilogue_bytes(workload),
            flops=2.0 * tiles_m * block_m * tiles_n * block_n * blocks * block_k,
            unit=_UNITS[schedule["algorithm"]],
            trips=share or -(-blocks // split),
            gathered=4.0 * split * block_m * block_n if schedule["reduce"] == "last" else 0.0,
        ),
        warps=schedule["warps"],
        stages=schedule["stages"],
    )


def _is_whole(schedule: Schedule) -> bool:
    """Whether a program has all of a tile's sum."""
    return bool(schedule["order"] == "tiles" and schedule["split"] == 1)


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
        when(not _is_whole(schedule), "part_ptr", "*fp32", "scratch:parts"),
        when(schedule["reduce"] == "last", "count_ptr", "*i32", "scratch:counts"),
        Argument("out_ptr", f"*{ELEMENT[p.out]}", "out"),
    )


def _epilogue(workload: Workload, p: Product, layout: WeightLayout) -> list[Argument]:
    weight = len(layout.planes) + 1 + p.weight.zero_points + p.weight.has_tensor_scale
    return epilogue_arguments(workload, 1, weight)


def _weight_constants(p: Product, schedule: Schedule, layout: WeightLayout) -> tuple[tuple[str, Value], ...]:
    """What the codes and scales are, and how they lie."""
    low, *high = layout.planes
    exponent, mantissa = MINIFLOATS.get(p.weight.kind, (0, 0))
    step, offset = _step_and_offset(p)
    return (
        ("BITS", low.bits),
        ("HIGH_BITS", high[0].bits if high else 0),
        ("VALUES", low.values),
        ("WORDS", low.words),
        ("CONTAINER", low.container),
        ("K_CONTIGUOUS", schedule["contiguous"] == "k"),
        ("KIND", 1 if p.weight.is_minifloat else 2 if p.weight.is_binary_coded else 0),
        ("EXPONENT", exponent),
        ("MANTISSA", mantissa),
        ("STEP", step),
        ("OFFSET", offset),
        ("SCALE", _SCALE_OF_64THS if p.weight.is_fixed_point else _SCALES[p.weight.scale]),
        ("GROUP", p.group),
        ("ZEROS", p.weight.zero_points),
        ("STACK", _stack(p, schedule)),
        ("HOW", _METHODS[schedule["method"]]),
        ("LATE", schedule["scale"] == "late"),
    )


def _decoding_constants(p: Product, schedule: Schedule) -> tuple[tuple[str, Value], ...]:
    """The inline PTX of a method that has some."""
    assembly, factor = _assembly(p, schedule["method"], *_step_and_offset(p), schedule["scale"] == "late")
    return (
        ("PERIOD", spread.period(p.word_bits, p.act)),
        ("FACTOR", factor),
        ("ASSEMBLY", assembly.text),
        ("SHAPE", assembly.constraints),
        ("SETTLE", schedule["settle"]),
    )


def _step_and_offset(p: Product) -> tuple[int, int]:
    """The number of an integer's code, ``step · code - offset``; of other formats, none.

    Fixed point, packed with its sign bit flipped, counts from the least up; what its unit is, scales say.
    """
    if p.weight.is_minifloat:
        return 1, 0
    if p.weight.is_fixed_point:
        return 1, _SIGN
    return int(p.weight.step), int(p.weight.step * p.weight.zero_point)


def _assembly(p: Product, method: str, step: int, offset: int, late: bool) -> tuple[spread.Assembly, float]:
    """How a method takes codes out of words of 16 bits, and what its values are short of; nothing for other methods."""
    if method == "raw":
        return spread.raw(p.word_bits, p.act), 1.0
    if method != "ptx":
        return spread.Assembly("", ""), 1.0
    if not p.weight.is_minifloat:
        return spread.integers(p.word_bits, p.act, *((1, 0) if p.weight.zero_points else (step, offset))), 1.0
    exponent, mantissa = MINIFLOATS[p.weight.kind]
    if p.weight.scale == "e4m3" and not late and exponent <= _MOST_FOLDED:
        return spread.floats(exponent, mantissa, p.act, scaled=False), spread.folded_factor(exponent, p.act)
    scaled = p.act != "f16" or not late  # f32, in which late scales are, takes the factor
    factor = 1.0 if scaled else spread.bias_factor(exponent, p.act)
    return spread.floats(exponent, mantissa, p.act, scaled), factor


def _quantise(p: Product, rounded: str) -> Launch:
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
        (("K", p.k), ("GROUP", p.group), ("BLOCK", block)),
        (p.m, groups, 1),
        Work(bytes=3.0 * p.m * p.k),
        warps=1 if block <= 256 else 4,
        stages=1,
    )
