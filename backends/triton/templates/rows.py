"""Softmax and normalisation of rows ``[M, COLS]``: a row at once if a block holds it, else in passes over blocks."""

import triton
import triton.language as tl


@triton.jit
def softmax(x_ptr, out_ptr, M, COLS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    """``exp(x - max) / Σ exp(x - max)``, ROWS rows a program; long rows in two passes, with a running maximum."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK)
    inside = (rows < M)[:, None]
    start = rows.to(tl.int64)[:, None] * COLS
    if BLOCK >= COLS:
        mask = inside & (at < COLS)[None, :]
        x = tl.load(x_ptr + start + at[None, :], mask=mask, other=-float("inf")).to(tl.float32)
        high = tl.max(x, 1)
        e = tl.exp(x - tl.where(high == -float("inf"), 0.0, high)[:, None])
        y = e * (1.0 / tl.sum(e, 1))[:, None]
        tl.store(out_ptr + start + at[None, :], y.to(out_ptr.dtype.element_ty), mask=mask)
    else:
        high = tl.full((ROWS,), -float("inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for first in range(0, COLS, BLOCK):
            mask = inside & (first + at < COLS)[None, :]
            x = tl.load(x_ptr + start + first + at[None, :], mask=mask, other=-float("inf")).to(tl.float32)
            higher = tl.maximum(high, tl.max(x, 1))
            base = tl.where(higher == -float("inf"), 0.0, higher)  # a row of -inf so far
            total = total * tl.exp(high - base) + tl.sum(tl.exp(x - base[:, None]), 1)
            high = higher
        share = 1.0 / total
        for first in range(0, COLS, BLOCK):
            mask = inside & (first + at < COLS)[None, :]
            x = tl.load(x_ptr + start + first + at[None, :], mask=mask, other=0.0).to(tl.float32)
            y = tl.exp(x - high[:, None]) * share[:, None]
            tl.store(out_ptr + start + first + at[None, :], y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def norm(x_ptr, weight_ptr, bias_ptr, out_ptr, M, COLS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
         CENTRED: tl.constexpr, EPS: tl.constexpr):  # fmt: skip
    """``(x - μ) / √(mean (x - μ)² + EPS) · weight + bias``; not CENTRED: μ = 0 and no bias."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = tl.arange(0, BLOCK)
    inside = (rows < M)[:, None]
    start = rows.to(tl.int64)[:, None] * COLS
    mean = tl.zeros((ROWS,), tl.float32)
    if BLOCK >= COLS:
        columns = (at < COLS)[None, :]
        x = tl.load(x_ptr + start + at[None, :], mask=inside & columns, other=0.0).to(tl.float32)
        if CENTRED:
            mean = tl.sum(x, 1) / COLS
        x = tl.where(columns, x - mean[:, None], 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(x * x, 1) / COLS + EPS)
        scaled(x, scale, weight_ptr, bias_ptr, out_ptr, start, at, inside, COLS, CENTRED)
    else:
        if CENTRED:
            for first in range(0, COLS, BLOCK):
                mask = inside & (first + at < COLS)[None, :]
                mean += tl.sum(tl.load(x_ptr + start + first + at[None, :], mask=mask, other=0.0).to(tl.float32), 1)
            mean = mean / COLS
        squares = tl.zeros((ROWS,), tl.float32)
        for first in range(0, COLS, BLOCK):
            columns = (first + at < COLS)[None, :]
            x = tl.load(x_ptr + start + first + at[None, :], mask=inside & columns, other=0.0).to(tl.float32)
            x = tl.where(columns, x - mean[:, None], 0.0)
            squares += tl.sum(x * x, 1)
        scale = 1.0 / tl.sqrt(squares / COLS + EPS)
        for first in range(0, COLS, BLOCK):
            mask = inside & (first + at < COLS)[None, :]
            x = tl.load(x_ptr + start + first + at[None, :], mask=mask, other=0.0).to(tl.float32) - mean[:, None]
            scaled(x, scale, weight_ptr, bias_ptr, out_ptr, start, first + at, inside, COLS, CENTRED)


@triton.jit
def scaled(x, scale, weight_ptr, bias_ptr, out_ptr, start, at, inside, COLS: tl.constexpr, CENTRED: tl.constexpr):
    """Store ``x · scale · weight + bias``."""
    weight = tl.load(weight_ptr + at, mask=at < COLS, other=0.0).to(tl.float32)
    y = x * scale[:, None] * weight[None, :]
    if CENTRED:
        y += tl.load(bias_ptr + at, mask=at < COLS, other=0.0).to(tl.float32)[None, :]
    tl.store(out_ptr + start + at[None, :], y.to(out_ptr.dtype.element_ty), mask=inside & (at < COLS)[None, :])
