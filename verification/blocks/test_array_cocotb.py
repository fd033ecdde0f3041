"""The exported Verilog of the array's blocks, simulated: cocotb tests with no, light and heavy stalls."""

import pytest

from verification.bench.cocotb_runner import simulate

ARRAY_BLOCKS = ("slice_mac", "weight_feed", "mac_array", "fp32_adder", "group_accumulator", "pe_array")
# Columns of the full-size array: compiled once each, not 32 times.
FULL_SIZE_COLUMNS = ("weight_column_32_by_32", "mac_column_16x32", "accumulator_column_16")


@pytest.mark.parametrize("block", ARRAY_BLOCKS)
def test_tiny(block):
    """Every block at the tiny size under Icarus: values from the functional numerics, latency and rate unstalled."""
    simulate(block, "tiny")


def test_scale_multiplier():
    """The scale multiplier at the tiny size: random vectors with holds, and all 256 E8M0 scales."""
    outcome = simulate("scale_multiplier", "tiny", tests=r"products|every_e8m0_scale")
    assert len(outcome.passed) == 4


def test_fpga_small():
    """The whole array at the FPGA size."""
    simulate("pe_array", "fpga-small")


# Each fault is one edit of the exported text; the block's tests must fail on it.
FAULTS = {
    "augmentation bit of the draft mode missing": (
        "pe_array",
        "tiny",
        ("{ codes[3:0], 1'h1 }", "{ codes[3:0], 1'h0 }"),
    ),
    "valid not held while the array waits": ("mac_array", "tiny", ("valid_next = value_", "valid_next = ~value_")),
    "chain memory never written": ("group_accumulator", "tiny", ("if (store)", "if (1'h0)")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(fault):
    """A fault in the Verilog text makes the block's cocotb tests fail."""
    block, chip, edit = FAULTS[fault]
    with pytest.raises(AssertionError, match=r"failed|did not finish"):
        simulate(block, chip, fault=edit)


@pytest.mark.full
@pytest.mark.parametrize("block", [*ARRAY_BLOCKS, "scale_multiplier"])
def test_verilator(block):
    """Every block under Verilator too; of the scale multiplier, all 2^16 FP16 scales against the corner sums."""
    simulate(block, "tiny", "verilator")


@pytest.mark.full
def test_full_size():
    """The published array, 16,384 slice MACs, end to end under Verilator."""
    outcome = simulate("pe_array", "4gb", "verilator", hierarchical=FULL_SIZE_COLUMNS)
    assert len(outcome.passed) == 4
