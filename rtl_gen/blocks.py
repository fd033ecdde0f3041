"""The blocks that can be exported, simulated and synthesised by name (``--block``)."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from amaranth.lib import wiring

from hw.array.dot_product import DotProduct
from hw.array.fp32 import Fp32Adder, ScaleMultiplier
from hw.array.group_accumulator import GroupAccumulator
from hw.array.mac_array import MacArray
from hw.array.pe_array import PeArray
from hw.array.slice_mac import SliceMac
from hw.array.weight_feed import WeightFeed
from hw.die.axi_machine import AxiMachine, AxiRegisters
from hw.die.axi_memory import AxiMemory, on_chip
from hw.die.die import Die
from hw.die.links import ChunkLink
from hw.memory.axi_bank import AxiBank
from hw.memory.hb_controller import HbController
from hw.memory_map import BufferSizes, die_map
from hw.params import ChipParams
from hw.params.links import LinkParams
from hw.pe.expert_router import ExpertRouter
from hw.pe.hotness import Hotness
from hw.pe.pe import Pe
from hw.pe.vector.lane import VectorLane
from hw.pe.vector.sigmoid import SigmoidUnit
from hw.pe.vector.vector_unit import VectorUnit


@dataclass(frozen=True)
class Block:
    """A named top level: ``build(chip)`` makes the Amaranth component for a chip's sizes."""

    summary: str
    build: Callable[[ChipParams], wiring.Component]


def die_chip(chip: ChipParams) -> ChipParams:
    """``chip`` with three PEs at least: with fewer a multicast is a unicast or a broadcast."""
    return dataclasses.replace(chip, pes=max(chip.pes, 3))


BLOCKS: dict[str, Block] = {
    "slice_mac": Block("slice operand x activation", lambda chip: SliceMac(chip.array)),
    "dot_product": Block(
        "slice MACs of one output and token, and their adder tree", lambda chip: DotProduct(chip.array)
    ),
    "weight_feed": Block("stored weight groups to operands; LSB augmentation", lambda chip: WeightFeed(chip.array)),
    "mac_array": Block("rows x columns dot units", lambda chip: MacArray(chip.array)),
    "scale_multiplier": Block("integer x FP16 or E8M0 scale to FP32", lambda chip: ScaleMultiplier(chip.array)),
    "fp32_adder": Block("IEEE binary32 addition", lambda chip: Fp32Adder(chip.array)),
    "group_accumulator": Block("group sums to FP32 chains", lambda chip: GroupAccumulator(chip.array)),
    "expert_router": Block("top-k of all and of the resident experts", lambda chip: ExpertRouter(chip.routing)),
    "hotness": Block("routing counters and the next hot set", lambda chip: Hotness(chip.routing)),
    "pe_array": Block("weight feed, MAC array and group accumulator", lambda chip: PeArray(chip.array)),
    "hb_controller": Block("controller of one hybrid-bonded DRAM bank", lambda chip: HbController(chip.hb)),
    "vector_lane": Block("arithmetic of one column of the vector unit", VectorLane),
    "sigmoid_unit": Block("sigmoid by table and cubic polynomial", SigmoidUnit),
    "vector_unit": Block("FP32 operations on rows, row maxima, sigmoid, requantisation", VectorUnit),
    "axi_registers": Block(
        "register map behind AXI4-Lite, for two PEs at most",
        lambda chip: AxiRegisters(die_map(dataclasses.replace(chip, pes=min(chip.pes, 2)), BufferSizes())),
    ),
    "axi_memory": Block("on-chip bank and its controller behind AXI4", lambda chip: AxiMemory(on_chip(chip.hb))),
    "stream_link": Block(
        "stream link: chunks on credits to any set of PEs",
        lambda chip: ChunkLink(LinkParams(sources=2, targets=chip.pes, word_bits=32 * chip.array.columns)),
    ),
    "axi_bank": Block("AXI4 manager in place of an HB bank", lambda chip: AxiBank(chip.hb, chip.axi)),
    "pe": Block("processing element: sequencer, units, memories, array, HB controller", Pe),
    "die": Block("three PEs or more on stream link and aggregation link", lambda chip: Die(die_chip(chip))),
    "pe_axi": Block(
        "the same with an AXI4 manager in place of the HB controller",
        lambda chip: Pe(dataclasses.replace(chip, memory="axi")),
    ),
    "axi_machine": Block(
        "two PEs at most with their banks on chip, behind AXI4-Lite and AXI4",
        lambda chip: AxiMachine(dataclasses.replace(chip, pes=min(chip.pes, 2), hb=on_chip(chip.hb))),
    ),
    "hbm_machine": Block(
        "two PEs at most, each with an AXI4 manager to a memory of its own, behind AXI4-Lite",
        lambda chip: AxiMachine(dataclasses.replace(chip, pes=min(chip.pes, 2), memory="axi")),
    ),
}
