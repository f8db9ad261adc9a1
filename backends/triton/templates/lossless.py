"""Decoding of entropy-coded bf16; the coding is that of :mod:`fettle.backends.triton.lossless.coding`."""

import triton
import triton.language as tl


@triton.jit
def decode(stream_ptr, start_ptr, table_ptr, rest_ptr, out_ptr, COUNT: tl.constexpr, LANES: tl.constexpr,
           CHUNK: tl.constexpr, LENGTH: tl.constexpr):  # fmt: skip
    """One group of LANES · CHUNK elements: each lane looks up the LENGTH bits ahead of it and moves on by a code."""
    group = tl.program_id(0)
    lane = tl.arange(0, LANES)
    at = tl.load(start_ptr + group * LANES + lane)
    for step in range(CHUNK):
        element = (group * CHUNK + step) * LANES + lane
        mask = element < COUNT
        word = stream_ptr + (at >> 5)
        ahead = (tl.load(word).to(tl.uint64) << 32) | tl.load(word + 1).to(tl.uint64)
        index = (ahead >> (64 - LENGTH - (at & 31)).to(tl.uint64)).to(tl.uint32) & ((1 << LENGTH) - 1)
        entry = tl.load(table_ptr + index).to(tl.uint32)
        at += entry >> 8
        rest = tl.load(rest_ptr + element, mask=mask, other=0).to(tl.uint32)
        bits = ((rest & 0x80) << 8) | ((entry & 0xFF) << 7) | (rest & 0x7F)
        tl.store(out_ptr + element, bits.to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=mask)
