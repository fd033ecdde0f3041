"""cocotb tests of the exported PE: whole programs against the models and against timelines worked by hand."""

import dataclasses
import os

import cocotb
import numpy as np

from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from cycle_model.pe.functional import functional
from hw.isa.result import RunResult
from hw.params import chip
from sw_stack.compiler.expert_program import read_rows
from verification.bench.pe_cocotb import VerilogPe
from verification.programs.equality import Compared, compare
from verification.programs.expert_cases import random_case
from verification.programs.generator import random_program
from verification.programs.golden import GOLDEN

PROGRAMS = int(os.environ.get("PE_PROGRAMS", "6"))
"""Random programs; the run on demand asks for many more."""
LATENESS = ("none", "light", "heavy")


def seen_outside(result: RunResult) -> RunResult:
    """``result`` without what only the inside of the PE holds."""
    if result.state is None:
        return result
    state = dataclasses.replace(result.state, memories={"HB": result.state.memories["HB"]})
    return dataclasses.replace(result, state=state, digest=None)


@cocotb.test()
async def random_programs(dut):
    """Random programs that send out what their memories hold: values, times and counters as the models have them."""
    params = chip(os.environ["CHIP"])
    pe = VerilogPe(dut, params)
    compared = Compared()
    for seed in range(PROGRAMS):
        program = random_program(params, 1000 + seed, commands=25, lateness=LATENESS[seed % 3], show=True)
        result = await pe.run(program)
        try:
            compared += compare([result, seen_outside(functional(program)), exact(program)])
        except AssertionError as error:
            raise AssertionError(f"seed {1000 + seed}: {error}") from error
    dut._log.info(f"{compared}")


@cocotb.test()
async def golden_programs(dut):
    """The programs encoded by hand: cycles and what is sent, as worked by hand."""
    params = chip(os.environ["CHIP"])
    pe = VerilogPe(dut, params)
    for name, golden in GOLDEN.items():
        if golden.program.chip == params:
            result = await pe.run(golden.program)
            assert tuple(zip(result.start, result.done, strict=True)) == tuple(
                zip(golden.start, golden.done, strict=True)
            ), name
            assert (result.cycles, tuple(result.state.out)) == (golden.cycles, golden.out), name


@cocotb.test()
@cocotb.parametrize(tier=["draft", "resident", "not resident"])
async def expert_ffn(dut, tier):
    """A whole expert, gate to residual: the runtime's bits, and the models' cycles."""
    params = chip(os.environ["CHIP"])
    case = random_case(5, outputs=32, hidden=32, experts=1, k=1, tokens=1)
    mode = "draft" if tier == "draft" else "full"
    program = case.program(params, mode, "stream" if tier == "not resident" else "hb")
    result = await VerilogPe(dut, params).run(program)
    compared = compare([result, seen_outside(functional(program)), exact(program), fast(program)])
    rows = read_rows(params, result.state.out, 1, 32)
    np.testing.assert_array_equal(rows.view(np.uint32), case.expected(mode).view(np.uint32))
    dut._log.info(f"{tier}: {result.cycles} cycles, {compared}")
