"""Kernels of the PE: generated assembler text, one kernel per way of getting at weights."""
