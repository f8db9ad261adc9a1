"""A GPU that is there: loading machine code, launching, timing. Needs cuda-bindings, not Triton."""
