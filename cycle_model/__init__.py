"""Bits and time of the machine, in NumPy and Numba."""
