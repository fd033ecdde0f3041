"""cocotb tests of the exported slice MAC."""

import cocotb
from cocotb.triggers import Timer

from verification.bench.cocotb_streams import sample


@cocotb.test()
async def every_product(dut):
    """All 32 operands x 256 activations, which every mode's operands are among: the product of Python integers."""
    for operand in range(-16, 16):
        dut.operand.value = operand & 0x1F
        for activation in range(-128, 128):
            dut.activation.value = activation & 0xFF
            await Timer(1, "ns")
            assert sample(dut.product) == (operand * activation) & 0x1FFF, (operand, activation)
