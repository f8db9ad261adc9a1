"""The systolic array. Hardware and cycles: ``hardware folds timeline``. Matrix products: ``product tiling program gemm
execute matmul``. Attention: ``cascade flash walker attention``.
Loops: ``compiled``."""
