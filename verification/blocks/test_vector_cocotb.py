"""The exported Verilog of the vector unit, simulated."""

import pytest

from verification.bench.cocotb_runner import simulate


def test_exported_verilog():
    """The same commands on the exported Verilog under Icarus; a fault in its text is noticed."""
    assert simulate("vector_unit", "fpga-small").passed == ["every_operation"]
    with pytest.raises(AssertionError):
        simulate("vector_unit", "fpga-small", fault=("operand_slot_next = issued[0]", "operand_slot_next = ~issued[0]"))
