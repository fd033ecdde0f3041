"""The exported Verilog of the vector unit, simulated."""

from verification.bench.cocotb_runner import simulate


def test_exported_verilog():
    """Every operation on the exported Verilog under Icarus: values, places and cycles."""
    assert simulate("vector_unit", "fpga-small").passed == ["every_operation"]
