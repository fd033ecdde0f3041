"""AXI4 and AXI4-Lite under the exported Verilog, with managers and memories of cocotbext-axi."""

import pytest

from verification.bench.cocotb_runner import simulate


@pytest.mark.parametrize("block", ["axi_registers", "axi_memory", "axi_bank"])
def test_axi(block):
    """Values, error responses, back-pressure on every channel, the 4 KB boundary, both orders of address and data."""
    simulate(block, "tiny", "icarus")
