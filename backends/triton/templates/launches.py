"""Launches that overlap: one may begin while the one before it ends (CUDA's programmatic dependent launch).

Instructions of sm_90 and later; see :class:`fettle.backends.triton.plan.Launch`.
"""

import triton
import triton.language as tl


@triton.jit
def let_next_begin():
    """Once all programs of this launch have called this, those of the next may begin where there is room."""
    tl.inline_asm_elementwise("griddepcontrol.launch_dependents; // $0", "=r", [], tl.int32, False, 1)


@triton.jit
def wait_for_previous():
    """Until all programs of the launch before this one have ended, and what they wrote can be read."""
    tl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], tl.int32, False, 1)
