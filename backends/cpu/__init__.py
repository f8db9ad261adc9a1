"""The CPU backend: kernels written as TensorIR, compiled by TVM and LLVM, loaded without either."""
