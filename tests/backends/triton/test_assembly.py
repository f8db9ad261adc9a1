"""Loops and kinds of instructions in assembly, on texts small enough to count by eye."""

from __future__ import annotations

from fettle.backends.triton.assembly import kind_of, main_loop

PTX = """
.visible .entry k(
{
	.reg .b32 	%r<9>;
	mov.u32 	%r1, %tid.x;
$L__BB0_1:
	add.s32 	%r2, %r1, 1;
	@%p1 bra 	$L__BB0_1;
$L__BB0_2:                               // =>This Inner Loop Header
	ld.shared.b32 	%r3, [%r2];
	// begin inline asm
	prmt.b32 %r4, %r3, %r3, 0x5410;
	lop3.b32 %r5, %r4, 0x000f000f, 0x64006400, 0xea;
	// end inline asm
	wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%f1}, {%r5}, %rd1, p, 1, 1;
	setp.lt.s32 	%p2, %r1, 9;
	@%p2 bra 	$L__BB0_2;
	ret;
}
"""

SASS = """
.text.k:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/                   LDS R2, [R3] ;
        /*0020*/              @!P0 HGMMA.64x16x16.F32 R24, R28, gdesc[UR4], R24 ;
        /*0030*/               @P1 BRA `(.L_x_2) ;
        /*0040*/                   STL [R1], R2 ;
.L_x_3:
        /*0050*/                   BRA `(.L_x_3);
        /*0060*/                   NOP;
"""

GCN = """
	v_mov_b32_e32 v0, 0
.LBB0_1:                                ; =>This Loop Header
	s_waitcnt vmcnt(0)
	v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]
	s_cbranch_scc1 .LBB0_1
	s_endpgm
"""


def test_ptx_loop_is_the_one_with_tensor_instructions() -> None:
    loop = main_loop(PTX)
    assert loop.total == 6
    assert dict(loop.counts) == {"shared": 1, "permute": 1, "logic": 1, "wgmma": 1, "other": 2}


def test_sass_loop_ends_at_its_branch() -> None:
    loop = main_loop(SASS)
    assert dict(loop.counts) == {"shared": 1, "wgmma": 1, "other": 1}
    assert loop["local"] == 0, "the store to local memory is outside"


def test_gcn_loop_is_the_one_that_multiplies_matrices() -> None:
    assert dict(main_loop(GCN).counts) == {"wait": 1, "mma": 1, "other": 1}


def test_without_a_loop_everything_counts() -> None:
    assert main_loop("\tadd.s32 %r1, %r1, 1;\n\tret;\n").total == 2
    assert main_loop("").total == 0


def test_kinds_follow_the_mnemonic() -> None:
    assert [kind_of(m) for m in ("LDL.64", "HFMA2.MMA", "F2FP.F16.F32.PACK_AB", "IMAD.MOV")] == [
        "local", "half", "convert", "other",
    ]  # fmt: skip
