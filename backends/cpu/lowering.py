"""TensorIR to a module of LLVM code: the passes that our kernels need, out of TVM's default pipeline.

Families write loops, vectors and buffers, never blocks, threads of a GPU or asynchronous copies; what lowers those
would find nothing and take most of the passes' time. Imports TVM: import it lazily.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx

_PASSES = tvm.ir.transform.Sequential(
    [
        tirx.transform.FlattenBuffer(),
        tirx.transform.BF16ComputeLegalize(),
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(),
        tirx.transform.StorageRewrite(),
        tirx.transform.UnrollLoop(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        tirx.transform.AnnotateEntryFunc(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(),
        tirx.transform.BF16StorageLegalize(),
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]
)


def llvm_module(function: Any, target: Any, entry: str) -> Any:
    """The compiled module that exports ``function`` as ``entry``: ``write_to_file`` gives its object code,
    ``inspect_source`` its assembly. Raises what TVM raises.
    """
    bound = function.with_attr("global_symbol", entry).with_attr("target", target.with_host(target))
    lowered = _PASSES(tvm.IRModule({entry: bound}))
    return tvm.get_global_func(f"target.build.{target.kind.name}")(lowered, target)
