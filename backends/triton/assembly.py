"""Reads assembly: which instructions the main loop of a kernel has, by kind. PTX, SASS and AMD's GCN."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

# fmt: off
KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("wgmma", ("wgmma.mma", "HGMMA", "IGMMA", "QGMMA")),
    ("mma", ("mma.", "HMMA", "IMMA", "QMMA", "tcgen05.mma", "UTCHMMA", "UTCQMMA", "UTCIMMA", "v_mfma", "OMMA")),
    ("local", ("ld.local", "st.local", "LDL", "STL", "scratch_load", "scratch_store")),
    ("shared", ("ld.shared", "st.shared", "ldmatrix", "stmatrix", "LDS", "STS", "LDSM", "STSM", "ds_")),
    ("copy", ("cp.async", "LDGSTS", "UBLKCP", "UTMALDG", "LDGDEPBAR")),
    ("global", ("ld.global", "st.global", "atom", "red.", "LDG", "STG", "ATOM", "RED", "global_", "buffer_")),
    ("convert", ("cvt", "I2F", "F2I", "F2F", "I2FP", "F2FP", "v_cvt")),
    ("logic", ("and.", "or.", "xor.", "not.", "lop3", "LOP3", "PLOP3", "ULOP3", "v_and", "v_or", "v_xor", "v_bfi")),
    ("permute", ("prmt", "PRMT", "shf", "shl", "shr", "SHF", "bfe", "bfi", "v_perm", "v_lsh", "v_ashr", "v_bfe")),
    ("half", ("fma.rn.f16", "fma.rn.bf16", "mul.f16", "mul.bf16", "mul.rn.bf16", "sub.f16", "sub.bf16", "add.f16",
              "HADD2", "HMUL2", "HFMA2", "v_pk")),
    ("wait", ("bar.", "BAR", "mbarrier", "wgmma.wait", "wgmma.fence", "wgmma.commit", "DEPBAR", "WARPSYNC", "SYNCS",
              "WARPGROUP", "s_waitcnt", "s_barrier")),
)
# fmt: on
"""Kinds of instructions by the beginnings of their mnemonics; the first that fits counts. The rest is ``other``."""

_LABEL = re.compile(r"\s*([$.\w]+):")
_BRANCH = re.compile(r"\b(?:bra|BRA|s_c?branch\w*)\b.*?([$.]?L?\w*BB\w+|\.L_x_\d+|0x[0-9a-f]+)")
_SASS = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
_TEXT = re.compile(r"\s*(?:@!?%?\w+\s+)?([a-z][\w.:]*)")
_IGNORED = (".", "//", ";", "{", "}", "#", "NOP")


@attrs.frozen
class Loop:
    """Instruction counts of a loop's body, one pass of one warp.

    Attributes:
        total: all instructions.
        counts: (kind, how many), by :data:`KINDS`, zeros left out.
    """

    total: int = 0
    counts: tuple[tuple[str, int], ...] = ()

    def __getitem__(self, kind: str) -> int:
        return dict(self.counts).get(kind, 0)


def main_loop(text: str) -> Loop:
    """The shortest loop with the most tensor instructions; without such, the longest that has no loop inside.

    Loops are found by branches to a label above; the whole text counts if there is none.
    """
    instructions, loops = _parse(text)
    counted = {(first, last): _count(instructions[first : last + 1]) for first, last in loops}
    if not counted:
        return _count(instructions)
    busiest = max(counted.values(), key=lambda loop: (_tensor(loop), -loop.total))
    if _tensor(busiest):
        return busiest
    inner = [a for a in counted if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in counted)]
    return max((counted[place] for place in inner), key=lambda loop: loop.total)


def whole(text: str) -> Loop:
    """All instructions of a text."""
    return _count(_parse(text)[0])


def kind_of(mnemonic: str) -> str:
    """The kind of an instruction."""
    for kind, beginnings in KINDS:
        if mnemonic.startswith(beginnings):
            return kind
    return "other"


def _tensor(loop: Loop) -> int:
    return loop["wgmma"] + loop["mma"]


def _count(mnemonics: Sequence[str]) -> Loop:
    counts = Counter(kind_of(m) for m in mnemonics)
    return Loop(len(mnemonics), tuple(sorted(counts.items())))


def _parse(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Mnemonics in order, and (first, last) of each loop among them."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for mnemonic, label, line in _lines(text):
        if label:
            labels.setdefault(label, len(instructions))
            continue
        instructions.append(mnemonic)
        branch = _BRANCH.search(line)
        if branch and labels.get(branch[1], len(instructions)) < len(instructions) - 1:
            loops.append((labels[branch[1]], len(instructions) - 1))
    return instructions, loops


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    """(mnemonic, label, line): one of the first two is empty."""
    for line in text.splitlines():
        label = _LABEL.match(line)
        if label and "/*" not in line:
            yield "", label[1], line
            continue
        found = _SASS.match(line)
        mnemonic = found[2] if found else ""
        if not found and not line.strip().startswith(_IGNORED) and (plain := _TEXT.match(line)):
            mnemonic = plain[1]
        if mnemonic and mnemonic != "NOP":
            yield mnemonic, "", line
