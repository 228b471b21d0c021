"""Triton source of the kernels. The only modules that import triton; loaded at the first launch, never before."""
