"""Attention with a running softmax (FlashAttention-2, 2307.08691), keys split among programs where queries are few.

The G = heads / kv_heads heads that share keys are rows of one tile: row r of a key-value head is query r // G of head
r mod G. So one kernel serves prefill (many queries) and decode (one query, G rows), and reads each key once for all G.
Exponentials are powers of two: logits are scaled by log2(e) / √dim before.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates.patterns import count_blocks, nth_block, seen


@triton.jit
def fields(bytes, BITS: tl.constexpr):
    """Codes of BITS bits from bytes [n, D · BITS / 8], earlier elements in lower bits: int32 [n, D]."""
    code = bytes.to(tl.int32)
    if BITS == 4:
        code = tl.interleave(code & 15, (code >> 4) & 15)
    elif BITS == 2:
        even = tl.interleave(code & 3, (code >> 4) & 3)
        code = tl.interleave(even, tl.interleave((code >> 2) & 3, (code >> 6) & 3))
    return code


@triton.jit
def cached(pointer, scale_ptr, zero_ptr, head, rn, rd, KV: tl.constexpr, DIM: tl.constexpr, D: tl.constexpr,
           BITS: tl.constexpr, GROUP: tl.constexpr, PER_CHANNEL: tl.constexpr, WHOLE: tl.constexpr,
           T: tl.constexpr):  # fmt: skip
    """Keys or values of some positions as T, [len(rn), D]; zeros beyond DIM and, unless WHOLE, beyond KV."""
    inside = (rn < KV)[:, None]
    mask = inside & (rd < DIM)[None, :]
    if BITS == 16 and WHOLE and D == DIM:
        result = tl.load(pointer + (head * KV + rn[:, None]) * DIM + rd[None, :])
    elif BITS == 16:
        result = tl.load(pointer + (head * KV + rn[:, None]) * DIM + rd[None, :], mask=mask, other=0.0)
    else:
        BYTES: tl.constexpr = DIM * BITS // 8
        rb = tl.arange(0, D * BITS // 8)
        at = pointer + (head * KV + rn[:, None]) * BYTES + rb[None, :]
        code = fields(tl.load(at, mask=inside & (rb < BYTES)[None, :], other=0), BITS)
        if PER_CHANNEL:
            GROUPS: tl.constexpr = (KV + GROUP - 1) // GROUP
            at = (head * GROUPS + rn // GROUP)[:, None] * DIM + rd[None, :]
            scale = tl.load(scale_ptr + at, mask=mask, other=0.0)
            zero = tl.load(zero_ptr + at, mask=mask, other=0.0)
        else:
            scale = tl.load(scale_ptr + head * KV + rn, mask=rn < KV, other=0.0)[:, None]
            zero = tl.load(zero_ptr + head * KV + rn, mask=rn < KV, other=0.0)[:, None]
        result = tl.where(mask, code.to(tl.float32) * scale + zero, 0.0).to(T)
    return result


@triton.jit
def visible(r, rn, KV: tl.constexpr, Q: tl.constexpr, G: tl.constexpr, CAUSAL: tl.constexpr):
    """Which keys rn the rows r of a tile see, [len(r), len(rn)]."""
    query = r // G
    result = (query < Q)[:, None] & (rn < KV)[None, :]
    if CAUSAL:
        result = result & (rn[None, :] <= (KV - Q + query)[:, None])
    return result


@triton.jit
def visible_of_block(r, rn, block, KV: tl.constexpr, Q: tl.constexpr, G: tl.constexpr, CAUSAL: tl.constexpr,
                     PATTERN: tl.constexpr, PATTERN_BLOCK: tl.constexpr, A: tl.constexpr, B: tl.constexpr):  # fmt: skip
    """The same of keys in, or past the end of, one block of a pattern."""
    position = KV - Q + r // G
    last = tl.minimum(position if CAUSAL else KV - 1, block * PATTERN_BLOCK + PATTERN_BLOCK - 1)
    last = tl.where(seen(position // PATTERN_BLOCK, block, PATTERN, A, B), last, -1)
    return rn[None, :] <= last[:, None]


@triton.jit
def weigh(logits, v, high, total, acc, SCALE: tl.constexpr):
    """The running softmax after some more keys: (largest logit, sum of weights, weighted sum of values), per row."""
    higher = tl.maximum(high, tl.max(logits, 1) * SCALE)
    base = tl.where(higher == -float("inf"), 0.0, higher)  # nothing was seen yet
    weight = tl.exp2(logits * SCALE - base[:, None])
    old = tl.exp2(high - base)
    total = total * old + tl.sum(weight, 1)
    acc = tl.dot(weight.to(v.dtype), v, acc * old[:, None])
    return higher, total, acc


@triton.jit
def attention(q_ptr, k_ptr, k_scale_ptr, k_zero_ptr, v_ptr, v_scale_ptr, v_zero_ptr, out_ptr, state_ptr,
              HEADS: tl.constexpr, KV_HEADS: tl.constexpr, Q: tl.constexpr, KV: tl.constexpr, DIM: tl.constexpr,
              D: tl.constexpr, BITS: tl.constexpr, GROUP: tl.constexpr, CAUSAL: tl.constexpr, PATTERN: tl.constexpr,
              PATTERN_BLOCK: tl.constexpr, A: tl.constexpr, B: tl.constexpr, SCALE: tl.constexpr, BM: tl.constexpr,
              BN: tl.constexpr, PARTS: tl.constexpr, IN_REGISTERS: tl.constexpr):  # fmt: skip
    """Rows of tile ``pid_0``, part ``pid_1`` of the keys, key-value head ``pid_2`` (of all batches).

    PARTS = 1: ``out[batch, HEADS, Q, DIM]``. Else sums ``out[PARTS, batch, HEADS, Q, DIM]`` and, of each row, the
    logit they are relative to and the sum of weights: ``state[PARTS, batch, HEADS, Q, 2]``.
    """
    T: tl.constexpr = q_ptr.dtype.element_ty
    G: tl.constexpr = HEADS // KV_HEADS
    tile = tl.program_id(0)
    if CAUSAL:  # the tiles with most keys first
        tile = tl.num_programs(0) - 1 - tile
    part = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    r = tile * BM + tl.arange(0, BM)
    rd = tl.arange(0, D)
    query = r // G
    row = ((head // KV_HEADS) * HEADS + (head % KV_HEADS) * G + r % G) * Q + query
    inside = query < Q
    q = tl.load(q_ptr + row[:, None] * DIM + rd[None, :], mask=inside[:, None] & (rd < DIM)[None, :], other=0.0)
    if IN_REGISTERS:  # a product's result lies as the left operand of the next one does, and needs no shared memory
        q = tl.dot(q, (rd[:, None] == rd[None, :]).to(T)).to(T)
    high = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    first_query = tile * BM // G
    last_query = min((tile * BM + BM - 1) // G, Q - 1)
    if PATTERN == 0:
        STEPS: tl.constexpr = (KV + BN - 1) // BN
        PER: tl.constexpr = (STEPS + PARTS - 1) // PARTS
        first = part * PER
        last = min(first + PER, STEPS)
        whole = KV // BN  # the steps before this one are seen by all rows
        if CAUSAL:
            last = min(last, (KV - Q + last_query) // BN + 1)
            whole = min(whole, (KV - Q + first_query + 1) // BN)
    else:
        PIECES: tl.constexpr = (PATTERN_BLOCK + BN - 1) // BN
        BLOCKS: tl.constexpr = (KV + PATTERN_BLOCK - 1) // PATTERN_BLOCK
        FIT: tl.constexpr = PATTERN_BLOCK % BN == 0
        i0 = (KV - Q + first_query) // PATTERN_BLOCK
        i1 = (KV - Q + last_query) // PATTERN_BLOCK
        steps = count_blocks(i0, i1, BLOCKS, CAUSAL, PATTERN, A, B) * PIECES
        per = (steps + PARTS - 1) // PARTS
        first = part * per
        last = min(first + per, steps)
        whole = KV - Q + first_query + 1 if CAUSAL else KV  # the keys before this one are hidden by blocks only
    EVEN: tl.constexpr = KV % BN == 0 and (PATTERN == 0 or (FIT and KV % PATTERN_BLOCK == 0))
    for step in range(first, last):
        if PATTERN == 0:
            rn = step * BN + tl.arange(0, BN)
        else:
            block, counts = nth_block(step // PIECES, i0, i1, BLOCKS, PATTERN, A, B)
            start = block * PATTERN_BLOCK + step % PIECES * BN
            rn = start + tl.arange(0, BN)
        k = cached(k_ptr, k_scale_ptr, k_zero_ptr, head, rn, rd, KV, DIM, D, BITS, GROUP, True, EVEN, T)
        v = cached(v_ptr, v_scale_ptr, v_zero_ptr, head, rn, rd, KV, DIM, D, BITS, GROUP, False, EVEN, T)
        logits = tl.dot(q, tl.trans(k))
        if PATTERN > 0:
            if not FIT or i0 != i1 or not counts or start + BN > whole:
                some = visible_of_block(r, rn, block, KV, Q, G, CAUSAL, PATTERN, PATTERN_BLOCK, A, B) & counts
                logits = tl.where(some, logits, -float("inf"))
        elif step >= whole:
            some = visible(r, rn, KV, Q, G, CAUSAL)
            logits = tl.where(some, logits, -float("inf"))
        high, total, acc = weigh(logits, v, high, total, acc, SCALE)
    mask = inside[:, None] & (rd < DIM)[None, :]
    if PARTS == 1:
        y = acc / tl.where(inside, total, 1.0)[:, None]
        tl.store(out_ptr + row[:, None] * DIM + rd[None, :], y.to(out_ptr.dtype.element_ty), mask=mask)
    else:
        rows = tl.num_programs(2) * G * Q
        tl.store(out_ptr + (part * rows + row)[:, None] * DIM + rd[None, :], acc, mask=mask)
        tl.store(state_ptr + (part * rows + row) * 2, high, mask=inside)
        tl.store(state_ptr + (part * rows + row) * 2 + 1, total, mask=inside)


@triton.jit
def combine(part_ptr, state_ptr, out_ptr, ROWS: tl.constexpr, DIM: tl.constexpr, D: tl.constexpr, PARTS: tl.constexpr):
    """One row of the result out of its parts (FlashDecoding): weights that are relative to one logit add up."""
    row = tl.program_id(0).to(tl.int64)
    rd = tl.arange(0, D)
    high = tl.load(state_ptr + row * 2)
    for part in range(1, PARTS):
        high = tl.maximum(high, tl.load(state_ptr + (part * ROWS + row) * 2))
    total = 0.0
    acc = tl.zeros((D,), tl.float32)
    for part in range(PARTS):
        at = part * ROWS + row
        share = tl.exp2(tl.load(state_ptr + at * 2) - high)
        total += share * tl.load(state_ptr + at * 2 + 1)
        acc += share * tl.load(part_ptr + at * DIM + rd, mask=rd < DIM, other=0.0)
    tl.store(out_ptr + row * DIM + rd, (acc / total).to(out_ptr.dtype.element_ty), mask=rd < DIM)
