"""The systolic array: ``hardware`` describes it, ``folds`` counts its cycles, ``program`` lists the tiles of a mapping,
``timeline`` times them, ``gemm`` ties them together for matrix products."""
