"""What every lowering shares: gathering link words, HB columns, descriptors and dispatch records of a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cycle_model.numerics import Mxfp4Weights, QuantizedWeights
from hw.errors import UserError
from hw.isa.encoding import DESCRIPTOR_VALID, record_header
from hw.isa.program import Chunk, PeProgram
from hw.params import ChipParams
from sw_stack.compiler.assembler import assemble
from sw_stack.compiler.kernels.projection import INIT, REGISTERS, SEMAPHORES, TileKernel, block_groups
from sw_stack.compiler.tiles import KBlocks, code_words, scale_words

Weights = QuantizedWeights | Mxfp4Weights


def slices_of(weights: Weights, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(MSB or only codes uint8 [outputs, K], scales uint16 [outputs, groups], LSB codes or None)."""
    if isinstance(weights, Mxfp4Weights):
        if mode != "mxfp4":
            raise UserError(f"MXFP4 weights must run in mode 'mxfp4', not {mode!r}")
        return weights.codes, weights.exponents.astype(np.uint16), None
    if mode == "mxfp4":
        raise UserError("mode 'mxfp4' must have MXFP4 weights, not INT8")
    return weights.msb_codes, weights.scales.view(np.uint16), weights.lsb_codes if mode == "full" else None


class ProgramBuilder:
    """Gathers words of links, HB columns, descriptors and records while kernels are chosen."""

    def __init__(self, chip: ChipParams):
        self.chip = chip
        self.stream: list[int] = []
        self.aggregation: list[int] = []
        self.hb: dict[int, int] = {}
        self.descriptors: list[int] = []
        self.texts: dict[str, str] = {"init": INIT}
        self.records: list[tuple[str, list[int]]] = [("init", [])]

    def call(self, kernel: str, text: str, registers: list[int]) -> None:
        """Run ``kernel`` (defined by ``text``) with r1 ... = ``registers``."""
        self.texts.setdefault(kernel, text)
        self.records.append((kernel, [value & 0xFFFFFFFF for value in registers]))

    def describe(self) -> int:
        """A new descriptor, valid, of the next free HB column; its number."""
        self.descriptors.append(DESCRIPTOR_VALID | len(self.hb))
        return len(self.descriptors) - 1

    def tiles(
        self, kernel: TileKernel, blocks: KBlocks, members: Sequence[tuple[Weights, slice]], *, stored: bool = False
    ) -> None:
        """Words of tiles (weights, outputs) that are computed side by side, in the order in which they are loaded.

        ``stored``: what comes from HB is there already, from an earlier pass over the same tiles.
        """
        parts = [slices_of(weights, kernel.mode) for weights, _ in members]
        for part in blocks.parts():
            inputs = slice(32 * part.start, 32 * part.stop)
            for (codes, scales, lsb), (_, outputs) in zip(parts, members, strict=True):
                words = scale_words(self.chip, scales[outputs, part]) + code_words(self.chip, codes[outputs, inputs])
                if kernel.tier == "hb" and not stored:
                    self.hb.update(enumerate(words, len(self.hb)))
                elif kernel.tier == "stream":
                    self.stream += words
                if lsb is not None:
                    self.stream += code_words(self.chip, lsb[outputs, inputs])

    def program(self) -> PeProgram:
        """The program; both links offer everything from cycle 0 on."""
        assembly = assemble(SEMAPHORES + REGISTERS + "".join(self.texts.values()), f"kernels of {self.chip.name}")
        dispatch = []
        for kernel, registers in self.records:
            dispatch += [record_header(assembly.kernels[kernel], len(registers)), *registers]
        program = PeProgram(
            self.chip,
            assembly.instructions,
            self.descriptors,
            dispatch,
            self.hb,
            *([Chunk(0, tuple(words))] if words else [] for words in (self.stream, self.aggregation)),
            kernels=assembly.kernels,
        )
        program.check()
        return program


def kernel_for(
    chip: ChipParams, mode: str, tier: str, groups: int, space: str, most_groups: int | None = None, blocks: int = 1
) -> TileKernel:
    """The kernel for K of ``groups`` and token ``blocks``; its K blocks have at most ``most_groups``."""
    kernel = TileKernel(chip, mode, tier, blocks=blocks, space=space, most_groups=most_groups)
    balanced = block_groups(groups, kernel.k_block)
    return dataclasses.replace(kernel, single=groups <= kernel.k_block, most_groups=balanced)


def tiles_of(outputs: slice, columns: int) -> list[slice]:
    """Outputs of each tile of ``outputs``."""
    return [slice(start, start + columns) for start in range(outputs.start, outputs.stop, columns)]
