"""cocotb tests of the exported die: programs in which PEs contend for both links, against the models, to the cycle."""

import os

import cocotb
import numpy as np

from cycle_model import links
from cycle_model.die import run
from cycle_model.pe.exact import exact
from cycle_model.pe.fast import fast
from hw.params import chip
from rtl_gen.blocks import die_chip
from verification.bench.cocotb_streams import component
from verification.bench.die_cocotb import VerilogDie
from verification.programs.die_programs import link_tour

PROGRAMS = int(os.environ.get("DIE_PROGRAMS", "4"))
"""Random programs."""


@cocotb.test()
async def every_link_operation(dut):
    """Every operation of both links, PE to PE: every command, grant, counter and word to the host as in both models.

    And the host gets the bits of the projection that the runtime computes.
    """
    die = VerilogDie(dut, component())
    params = die_chip(chip(os.environ["CHIP"]))
    compared = 0
    for seed in range(PROGRAMS):
        tour = link_tour(params, seed)
        bench = await die.run(tour.program)
        for model in (run(tour.program, links.exact, exact), run(tour.program, links.fast, fast)):
            compared += bench.compare(model)
            for got, expected in zip(tour.rows(model), tour.expected, strict=True):
                np.testing.assert_array_equal(got, expected)
    dut._log.info(f"{compared} values compared in {PROGRAMS} programs")
    assert compared > 500 * PROGRAMS
