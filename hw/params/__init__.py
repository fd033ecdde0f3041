"""Sizes of the machine: what RTL is built to and what the models count.

Standard library only; RTL, models, compiler and reports all read these values here. Sources are named per
field: "paper" is ELMoE-3D (arXiv 2604.14626) read through a public summary, "chosen" is a decision of this
project where nothing is published.
"""

from hw.params.array import ArrayParams
from hw.params.axi import MEMORIES, AxiMasterParams
from hw.params.chips import CHIPS, ChipParams, chip
from hw.params.hb import ECC_CHECK_BITS, ECC_GROUP, ECC_MODES, ECC_WORD_BITS, HbParams
from hw.params.pe import LOOP_LEVELS, REGISTERS, ROW_REGISTERS, SEMAPHORE_MAX, SEMAPHORES, PeParams
from hw.params.routing import RoutingParams

__all__ = [
    "CHIPS",
    "ECC_CHECK_BITS",
    "ECC_GROUP",
    "ECC_MODES",
    "ECC_WORD_BITS",
    "LOOP_LEVELS",
    "MEMORIES",
    "REGISTERS",
    "ROW_REGISTERS",
    "SEMAPHORES",
    "SEMAPHORE_MAX",
    "ArrayParams",
    "AxiMasterParams",
    "ChipParams",
    "HbParams",
    "PeParams",
    "RoutingParams",
    "chip",
]
