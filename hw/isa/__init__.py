"""Encodings shared by RTL, models, assembler and compiler. Standard library only.

``modes`` holds those of array and HB bank, ``encoding`` the PE's command set.
"""

from hw.isa.modes import HbCommand, HbError, WeightMode

__all__ = ["HbCommand", "HbError", "WeightMode"]
