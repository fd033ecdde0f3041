"""What every lowering shares: gathering link words, HB columns, descriptors and dispatch records of a program.

A `Bank` is the hybrid-bonded DRAM of one PE: slices are put there once, and every program that reads them finds them at
the same columns, a draft beside the pass in full. A `ProgramBuilder` makes one program; several can be joined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

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


def slices_of(weights: Weights, mode: str, *, whole: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(MSB or only codes uint8 [outputs, K], scales uint16 [outputs, groups], LSB codes or None).

    ``whole``: the LSB slice lies beside the MSB slice, whether ``mode`` reads it or not.
    """
    if isinstance(weights, Mxfp4Weights):
        if mode != "mxfp4":
            raise UserError(f"MXFP4 weights must run in mode 'mxfp4', not {mode!r}")
        return weights.codes, weights.exponents.astype(np.uint16), None
    if mode == "mxfp4":
        raise UserError("mode 'mxfp4' must have MXFP4 weights, not INT8")
    return weights.msb_codes, weights.scales.view(np.uint16), weights.lsb_codes if whole or mode == "full" else None


@dataclass(frozen=True)
class Column:
    """The register of a record that holds the descriptor of an HB column."""

    first: int


@dataclass(frozen=True)
class Region:
    """Weights of the tiles of one call: HB columns from ``first`` to ``end``, and what the stream link delivers."""

    first: int
    end: int
    stream: tuple[int, ...]


@dataclass
class Bank:
    """What the HB bank of a PE holds, column by column; regions by what they hold. Keeps the weights it knows."""

    columns: list[int] = field(default_factory=list)
    regions: dict[tuple, Region] = field(default_factory=dict)
    _known: dict[int, Weights] = field(default_factory=dict)

    def region(
        self, chip: ChipParams, kernel: TileKernel, blocks: KBlocks, calls: Sequence[Sequence[tuple[Weights, slice]]]
    ) -> Region:
        """Where tiles lie that a call computes: (weights, outputs) side by side, in the order of loading."""
        tiles = tuple(tuple((id(w), part.start, part.stop) for w, part in members) for members in calls)
        key = (kernel.mode, kernel.tier, blocks, tiles)
        if key not in self.regions:
            self._known |= {id(weights): weights for members in calls for weights, _ in members}
            self.regions[key] = self._place(chip, kernel, blocks, calls, (kernel.stored, blocks, tiles))
        return self.regions[key]

    def _place(
        self,
        chip: ChipParams,
        kernel: TileKernel,
        blocks: KBlocks,
        calls: Sequence[Sequence[tuple[Weights, slice]]],
        stored: tuple,
    ) -> Region:
        """A new region; what another mode has put into HB already is not put there again."""
        there = self.regions.get(stored)
        near, stream = [], []
        for members in calls:
            parts = [slices_of(weights, kernel.mode, whole=kernel.tier == "bank") for weights, _ in members]
            for part in blocks.parts():
                inputs = slice(32 * part.start, 32 * part.stop)
                for (codes, scales, lsb), (_, outputs) in zip(parts, members, strict=True):
                    words = scale_words(chip, scales[outputs, part]) + code_words(chip, codes[outputs, inputs])
                    (stream if kernel.tier == "stream" else near).extend(words)
                    if lsb is not None:
                        (near if kernel.tier == "bank" else stream).extend(code_words(chip, lsb[outputs, inputs]))
        if there is None:
            there = Region(len(self.columns), len(self.columns) + len(near), ())
            self.regions[stored] = there
            self.columns += near
        return Region(there.first, there.end, tuple(stream))


class ProgramBuilder:
    """Gathers words of links, HB regions and records while kernels are chosen; ``bank`` keeps what is in HB."""

    def __init__(self, chip: ChipParams, bank: Bank | None = None):
        self.chip, self.bank = chip, bank or Bank()
        self.stream: list[int] = []
        self.aggregation: list[int] = []
        self.regions: dict[Region, None] = {}
        self.texts: dict[str, str] = {"init": INIT}
        self.records: list[tuple[str, list[int | Column]]] = [("init", [])]

    def call(self, kernel: str, text: str, registers: Sequence[int | Column]) -> None:
        """Run ``kernel`` (defined by ``text``) with r1 ... = ``registers``."""
        if self.texts.setdefault(kernel, text) != text:
            raise UserError(f"kernel {kernel!r} must have one text in a program")
        self.records.append((kernel, list(registers)))

    def weights(
        self, kernel: TileKernel, blocks: KBlocks, calls: Sequence[Sequence[tuple[Weights, slice]]]
    ) -> Column | int:
        """Weights of all tiles of the next call; what its descriptor register is to hold.

        ``calls``: (weights, outputs) that are computed side by side, in the order in which they are loaded.
        """
        region = self.bank.region(self.chip, kernel, blocks, calls)
        self.stream += region.stream
        if kernel.tier == "stream":
            return 0
        self.regions[region] = None
        return Column(region.first)

    def join(self, other: ProgramBuilder) -> None:
        """Go on with what ``other``, a builder on the same bank, does."""
        for name, text in other.texts.items():
            if self.texts.setdefault(name, text) != text:
                raise UserError(f"kernel {name!r} must have one text in a program")
        self.records += other.records[1:]
        self.stream += other.stream
        self.aggregation += other.aggregation
        self.regions |= other.regions

    def program(self) -> PeProgram:
        """The program; both links offer everything from cycle 0 on."""
        assembly = assemble(SEMAPHORES + REGISTERS + "".join(self.texts.values()), f"kernels of {self.chip.name}")
        dispatch, descriptors = [], {}
        for kernel, registers in self.records:
            dispatch.append(record_header(assembly.kernels[kernel], len(registers)))
            for value in registers:
                if isinstance(value, Column):
                    value = descriptors.setdefault(value.first, len(descriptors))
                dispatch.append(value & 0xFFFFFFFF)
        program = PeProgram(
            self.chip,
            assembly.instructions,
            [DESCRIPTOR_VALID | first for first in descriptors],
            dispatch,
            {at: self.bank.columns[at] for region in self.regions for at in range(region.first, region.end)},
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
