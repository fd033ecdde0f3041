"""cocotb tests of the exported PE with an AXI4 manager in place of its HB bank: the models' bits, not their cycles."""

import dataclasses
import os

import cocotb
import numpy as np

from cycle_model.pe.exact import exact
from cycle_model.pe.functional import functional
from hw.isa.counters import AXI_COUNTERS
from hw.isa.program import PeProgram
from hw.params import chip
from sw_stack.compiler.expert_program import read_rows
from verification.bench.axi_cocotb import STALLS
from verification.bench.pe_axi_cocotb import BASE, AxiVerilogPe
from verification.programs.equality import compare
from verification.programs.expert_cases import random_case
from verification.programs.generator import random_program

CHIP = dataclasses.replace(chip(os.environ["CHIP"]), memory="axi")
PROGRAMS = int(os.environ.get("PE_PROGRAMS", "1"))
"""Random programs; the run on demand asks for more."""
TIMES = ("_stalls", "_cycles")
"""Ends of the names of counters that depend on time, and so on the memory."""


async def _run(pe: AxiVerilogPe, program: PeProgram):
    """Run ``program`` and hold everything that does not depend on time against the models; the run."""
    result = await pe.run(program, limit=30_000)
    values = functional(program)
    outside = dataclasses.replace(values.state, memories={"HB": {}})
    compare([result, dataclasses.replace(values, state=outside, digest=None)])

    # The memory has the model's HB columns, and around them nothing has changed.
    expected = bytearray(pe.before)
    width = CHIP.hb.column_bytes
    for column, word in values.state.memories["HB"].items():
        at = BASE + column * width
        expected[at : at + width] = word.to_bytes(width, "little")
    assert pe.contents() == expected

    # Counters: those that this PE has, no others; equal to the model's where they do not depend on time.
    times = exact(dataclasses.replace(program, chip=dataclasses.replace(CHIP, memory="hb")))
    assert list(result.counters) == list(AXI_COUNTERS)
    shared = [name for name in result.counters if name in times.counters and not name.endswith(TIMES)]
    assert len(shared) > 10
    assert {name: result.counters[name] for name in shared} == {name: times.counters[name] for name in shared}
    assert result.counters["axi_reads"] == times.counters["hb_reads"] == pe.seen["r taken"]
    assert result.counters["axi_writes"] == times.counters["hb_writes"] == pe.seen["w taken"]
    assert result.counters["axi_read_bursts"] == pe.seen["ar taken"]
    assert result.counters["axi_write_bursts"] == pe.seen["aw taken"] == pe.seen["b taken"]
    assert result.counters["axi_address_stalls"] == pe.seen["ar stalled"] + pe.seen["aw stalled"]
    assert result.counters["axi_write_stalls"] == pe.seen["w stalled"]
    assert result.counters["axi_errors"] == 0
    return result, times


@cocotb.test()
@cocotb.parametrize(stalls=["none", "heavy"])
async def random_programs(dut, stalls):
    """Random programs, loads and refills among them: what is sent and left in the memory is the functional model's."""
    pe = AxiVerilogPe(dut, CHIP, STALLS[stalls])
    moved = 0
    for seed in range(PROGRAMS):
        program = random_program(CHIP, 1020 + seed, commands=25, show=True, lateness="none")
        result, times = await _run(pe, program)
        moved += min(result.counters["axi_reads"], result.counters["axi_writes"])
        dut._log.info(f"seed {seed}: {result.cycles} cycles, {times.cycles} with an HB bank")
    assert moved > 0


@cocotb.test()
@cocotb.parametrize(stalls=list(STALLS))
async def expert_ffn(dut, stalls):
    """A whole expert, gate to residual, under back-pressure and changing latency: the runtime's bits."""
    case = random_case(5, outputs=32, hidden=32, experts=1, k=1, tokens=1)
    result, times = await _run(AxiVerilogPe(dut, CHIP, STALLS[stalls]), case.program(CHIP, "full", "hb"))
    rows = read_rows(CHIP, result.state.out, 1, 32)
    np.testing.assert_array_equal(rows.view(np.uint32), case.expected("full").view(np.uint32))
    assert result.cycles != times.cycles
    dut._log.info(f"{result.cycles} cycles, {times.cycles} with an HB bank")
