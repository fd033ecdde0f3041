"""Mistakes in the arithmetic array and its numerics that an engineer could make; each must make a test fail."""

from verification.faults.fault import Target

_BLOCKS = "verification/blocks"

TARGETS = (
    Target("slice_mac", "hw/array/slice_mac.py", (f"{_BLOCKS}/test_slice_mac.py",)),
    Target("dot_product", "hw/array/dot_product.py", (f"{_BLOCKS}/test_dot_product.py",)),
    Target(
        "weight_feed", "hw/array/weight_feed.py", (f"{_BLOCKS}/test_slice_mac.py", f"{_BLOCKS}/test_weight_feed.py")
    ),
    Target("mac_array", "hw/array/mac_array.py", (f"{_BLOCKS}/test_mac_array.py",)),
    Target("fp32", "hw/array/fp32.py", (f"{_BLOCKS}/test_fp32.py",)),
    Target("group_accumulator", "hw/array/group_accumulator.py", (f"{_BLOCKS}/test_group_accumulator.py",)),
    Target("pe_array", "hw/array/pe_array.py", (f"{_BLOCKS}/test_pe_array.py",)),
    Target("pipeline", "hw/pipeline.py", (f"{_BLOCKS}/test_dot_product.py", f"{_BLOCKS}/test_fp32.py")),
)

FAULTS = ()
