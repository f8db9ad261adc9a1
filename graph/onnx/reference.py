"""Reference execution: onnx.reference with the operators it lacks. Slow and right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, TypeProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25
from onnx.reference.ops.op_quantize_linear import QuantizeLinear_25
from onnx.reference.ops.op_rotary_embedding import RotaryEmbedding as RotaryEmbedding_23

from fettle.graph.errors import InvalidGraph, Unsupported
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, opset
from fettle.graph.quantized import QuantizedWeight, unpack_bits


class MatMulNBits(OpRun):
    """com.microsoft.MatMulNBits: ``y = x · Wᵀ`` with W quantised to 2 … 8 bits in blocks along K.

    The product is taken in float64, whatever ``accuracy_level`` allows, and rounded to x's type once.
    """

    op_domain = MICROSOFT

    def _run(
        self,
        x: np.ndarray,
        packed: np.ndarray,
        scales: np.ndarray,
        zero_points: np.ndarray | None = None,
        g_idx: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        **attributes: Any,
    ) -> tuple[np.ndarray]:
        if g_idx is not None:
            raise NotImplementedError("MatMulNBits with g_idx")
        k, n = int(attributes["K"]), int(attributes["N"])
        bits, block = int(attributes.get("bits") or 4), int(attributes["block_size"])
        dense = dequantise(packed, scales, zero_points, bits=bits, block=block, k=k)
        if dense.shape != (n, k):
            raise ValueError(f"MatMulNBits: B is {dense.shape}, the attributes say {(n, k)}")
        y = x.astype(np.float64) @ dense.T
        if bias is not None:
            y = y + bias.astype(np.float64)
        return (y.astype(x.dtype),)


def dequantise(
    packed: np.ndarray, scales: np.ndarray, zero_points: np.ndarray | None, *, bits: int, block: int, k: int
) -> np.ndarray:
    """The float64 matrix ``[N, K]`` that MatMulNBits operands stand for. Zero points may be packed or floating."""
    if scales.dtype not in (np.float16, np.float32):
        scales = scales.astype(np.float32)
    if zero_points is None or zero_points.dtype == np.uint8:
        return QuantizedWeight.from_matmul_nbits(packed, scales, zero_points, bits=bits, block=block, k=k).dequantise()
    n, blocks = packed.shape[:2]
    codes = unpack_bits(packed.reshape(n, -1), bits)[:, :k].astype(np.float64)

    def per_element(values: np.ndarray) -> np.ndarray:
        repeated: np.ndarray = np.repeat(values.reshape(n, blocks).astype(np.float64), block, axis=1)
        return repeated[:, :k]

    result: np.ndarray = (codes - per_element(zero_points)) * per_element(scales)
    return result


class RMSNormalization(OpRun):
    """RMSNormalization for models whose opset is too old to have it."""

    op_domain = FETTLE

    def _run(self, x: np.ndarray, scale: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        axis = int(attributes["axis"])
        wide = x.astype(np.float64)
        axes = tuple(range(axis % x.ndim, x.ndim))
        root = np.sqrt((wide * wide).mean(axis=axes, keepdims=True) + float(attributes["epsilon"]))
        return ((wide / root * scale).astype(x.dtype),)


class Gelu(OpRun):
    """Gelu for models whose opset is too old to have it."""

    op_domain = FETTLE

    def _run(self, x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray]:
        from scipy.special import ndtr

        wide = x.astype(np.float64)
        if approximate == "tanh":
            share = 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (wide + 0.044715 * wide**3)))
        else:
            share = ndtr(wide)
        return ((wide * share).astype(x.dtype),)


class Swish(OpRun):
    """Swish for models whose opset is too old to have it."""

    op_domain = FETTLE

    def _run(self, x: np.ndarray, alpha: float = 1.0) -> tuple[np.ndarray]:
        return ((x / (1.0 + np.exp(-alpha * x.astype(np.float64)))).astype(x.dtype),)


class RotaryEmbedding(RotaryEmbedding_23):
    """RotaryEmbedding for models whose opset is too old to have it."""

    op_domain = FETTLE


class GatherElements(OpRun):
    """GatherElements; onnx's own fails where the indices are shorter than the data along the other axes."""

    def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
        axis %= data.ndim
        inside = tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(indices.shape))
        return (np.take_along_axis(data[inside], indices, axis),)


class BatchNormalization(OpRun):
    """That of opsets 9 to 13, which normalises by its statistics; onnx's own mixes those of the batch into them."""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        offset: np.ndarray,
        mean: np.ndarray,
        variance: np.ndarray,
        epsilon: float = 1e-5,
        **attributes: Any,
    ) -> tuple[np.ndarray]:
        factor = scale / np.sqrt(variance.astype(np.float64) + epsilon)
        by, plus = (row.reshape(-1, *(1 for _ in x.shape[2:])) for row in (factor, offset - mean * factor))
        return ((x * by + plus).astype(x.dtype),)


class MatMulInteger(OpRun):
    """MatMulInteger; onnx's own takes a zero point for each row as one for each column."""

    def _run(
        self, a: np.ndarray, b: np.ndarray, a_zero: np.ndarray | None = None, b_zero: np.ndarray | None = None
    ) -> tuple[np.ndarray]:
        left, right = a.astype(np.int32), b.astype(np.int32)
        if a_zero is not None:
            left = left - (a_zero[:, None] if a_zero.ndim == 1 < a.ndim else a_zero).astype(np.int32)
        if b_zero is not None:
            right = right - b_zero.astype(np.int32)
        return (left @ right,)


class Loop(OpRun):
    """Loop; onnx's own makes no pass where the condition is left out, and joins scan outputs, which are stacked."""

    body: Any  # onnx sets both from the node's attribute
    _run_body: Any

    def need_context(self) -> bool:
        """Bodies read tensors from outside."""
        return True

    def _run(
        self,
        trips: np.ndarray | None,
        going: np.ndarray | None,
        *carried: Any,
        context: Mapping[str, Any] | None = None,
        body: object = None,  # attributes are passed as arguments, too
        **passed: Any,
    ) -> tuple[Any, ...]:
        values, scanned = list(carried), list[list[np.ndarray]]()
        while (going is None or bool(going)) and (trips is None or len(scanned) < trips):
            inputs = (np.array(len(scanned), np.int64), np.array(True), *values)
            found = self._run_body(
                {**(context or {}), **dict(zip(self.body.input_names, inputs, strict=True))}, **passed
            )
            going, values = found[0], found[1 : 1 + len(carried)]
            scanned.append(found[1 + len(carried) :])
        if scanned:
            return (*values, *(np.stack(parts) for parts in zip(*scanned, strict=True)))
        return (*values, *map(_nothing, self.body.output_types[1 + len(carried) :]))


def _nothing(kind: TypeProto) -> np.ndarray:
    """Of a scan output that no pass gives; axes of unknown length are empty."""
    sizes = [dim.dim_value for dim in kind.tensor_type.shape.dim]
    return np.empty([0, *sizes], helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))


class QuantizeLinear(QuantizeLinear_25):
    """That of opsets before 19, which onnx's evaluator lacks: the same for one number, or one for each channel."""


class DequantizeLinear(DequantizeLinear_25):
    """See :class:`QuantizeLinear`."""


OPERATORS = (MatMulNBits, RMSNormalization, Gelu, Swish, RotaryEmbedding, GatherElements, MatMulInteger, Loop)
_BEFORE_19 = (QuantizeLinear, DequantizeLinear)


def evaluator(model: ModelProto) -> ReferenceEvaluator:
    """A reference evaluator for a model.

    Raises:
        Unsupported: an operator has no reference implementation.
    """
    version = opset(model)
    operators = [
        *OPERATORS,
        *(_BEFORE_19 if version < 19 else ()),
        *((BatchNormalization,) if 9 <= version < 14 else ()),
    ]
    try:
        return ReferenceEvaluator(model, new_ops=operators)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise Unsupported(f"no reference implementation: {error}") from None


def evaluate(model: ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output of a model for given inputs, by name.

    Raises:
        InvalidGraph: inputs are missing, or the model fails as it runs.
        Unsupported: an operator has no reference implementation.
    """
    run = evaluator(model)
    missing = [name for name in run.input_names if name not in inputs]
    if missing:
        raise InvalidGraph(f"inputs missing: {' '.join(missing)}")
    try:
        values = run.run(None, dict(inputs))
    except Exception as error:
        raise InvalidGraph(f"the model fails as it runs: {error}") from error
    return dict(zip(run.output_names, values, strict=True))
