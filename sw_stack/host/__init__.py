"""Talks to a board: frames, registers, and programs run on real hardware. No Amaranth."""
