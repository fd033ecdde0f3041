"""Values of the operations outside the PE array, and fast kernels of those inside it: bit-exact, Numba.

No library transcendental, no BLAS, no fused multiply-add, no fast-math. Every reduction has a stated order and
holds terms of one token only, so no result depends on what else is computed with it. docs/runtime.md states
all orders in one place.
"""
