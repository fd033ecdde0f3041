"""Whole programs of the PE at every level: random, hand-worked, and real kernels; equality and coverage."""
