"""cocotb tests of the exported HB controller: against the bank, the protocol checker and both models."""

import os

import cocotb
import numpy as np

from cycle_model.hb import REQUEST, Traffic, exact, fast
from hw.isa import HbCommand
from hw.params import HbParams, chip
from verification.bench.hb_cocotb import run_cocotb
from verification.bench.hb_equality import assert_equal
from verification.bench.hb_traffic import STALL_RATES, random_traffic

COMMANDS = int(os.environ.get("HB_COMMANDS", "600"))
"""Least number of DRAM commands of each test; the run on demand asks for many more."""


def _params() -> HbParams:
    return chip(os.environ["CHIP"]).hb


@cocotb.test()
@cocotb.parametrize(stall=list(STALL_RATES))
async def random_mixes(dut, stall):
    """Random reads and writes of every requester, some illegal: no violation, data right, equal to exact and fast."""
    transfers = 8 + COMMANDS // 22
    traffic = random_traffic(_params(), 21, transfers=transfers, stall=stall)
    harness = await run_cocotb(dut, traffic)
    stepped = exact(traffic)
    compared = assert_equal(harness.trace(), stepped, "Verilog against exact")
    assert_equal(stepped, fast(traffic), "exact against fast")
    commands = sum(harness.checker.commands.values())
    assert commands >= COMMANDS, f"only {commands} commands"
    dut._log.info(f"{commands} commands without violation in {harness.cycle} cycles, {compared} items compared")


@cocotb.test()
async def refreshes_under_load(dut):
    """Back-to-back streams over two refresh intervals, then a pause: row boundaries refresh, the idle bank does."""
    params = _params()
    requests = np.zeros(16, dtype=REQUEST)
    requests["columns"] = 20 * params.data_columns
    requests["write"] = np.arange(16) % 4 == 3
    requests["requester"] = np.arange(16) % params.requesters
    requests["row"] = 2 * np.arange(16)
    requests["cycle"][12:] = 24_000  # one falls due while idle, at edge 9360, cycle 23,400
    requests["columns"][12:] = 1
    traffic = Traffic(params, requests)
    harness = await run_cocotb(dut, traffic)
    refreshes = harness.trace().commands[harness.trace().commands[:, 1] == HbCommand.REFRESH, 0]
    assert len(refreshes) == 3
    assert refreshes[-1] == 23_400
    assert_equal(harness.trace(), fast(traffic), "Verilog against fast")
