"""Sizes of the processing element around its array: memories, queues, pipeline depths."""

from dataclasses import dataclass

from hw.params.checks import is_power_of_two, require

SEMAPHORES = 16
SEMAPHORE_MAX = 15
REGISTERS = 16
LOOP_LEVELS = 4
ROW_REGISTERS = 8
"""What the command encoding fixes, whatever the chip (docs/pe.md)."""
GROUP_WORDS = 4
"""Words of codes of a weight group: C outputs x 32 inputs x 4 bits, in words of 32 C bits."""
GROUP_FETCH_CYCLES = GROUP_WORDS + 3
"""From a MATMUL's start until the array can use its first group: take the command, scale word, codes, weight feed."""


@dataclass(frozen=True, kw_only=True)
class PeParams:
    """The processing element around its array (docs/pe.md); everything "chosen" unless stated.

    A word is 4 x columns bytes: one HB column, one link word, one row of FP32 values.

    wh_words, wl_words    weight memories fed by HB and by the stream link (paper: 32 KB together)
    al_groups, av_groups  activation memories, group words of 32 x rows bytes (paper: 32 KB together)
    rt_rows               result tiles of the array, FP32 rows
    vt_rows               vector tiles
    lt_rows               rows received
    xm_words              words to send
    instructions          IM, commands of 160 bits
    descriptors           DM, words of 32 bits
    queue_depth           commands of each unit's queue
    watchdog_cycles       longest time without progress while busy
    fetch                 cycles in which a group of weights and scales is read from WH or WL, at least 7; at least
                          add_stages + 2 of the array, so that a chain is never revisited too early
    vector_read_stages    cycles from a row's address to its operands in the vector unit
    vector_add_stages     registers of the vector unit's FP32 adders, 1 to 5
    vector_mul_stages     registers of its FP32 multipliers, 1 to 4
    vector_write_stages   registers between a result and its memory
    max_levels_per_stage  comparator levels of the row maximum between two registers
    sigmoid_units         sigmoid lanes; a row of C values takes columns / sigmoid_units cycles
    vector_divide_stages  registers of the row registers' dividers, 1 to 29
    """

    wh_words: int = 128
    wl_words: int = 128
    al_groups: int = 32
    av_groups: int = 32
    rt_rows: int = 128
    vt_rows: int = 128
    lt_rows: int = 64
    xm_words: int = 64
    instructions: int = 512
    descriptors: int = 1024
    queue_depth: int = 8
    watchdog_cycles: int = 1 << 16
    fetch: int = 8
    vector_read_stages: int = 1
    vector_add_stages: int = 5
    vector_mul_stages: int = 3
    vector_write_stages: int = 1
    max_levels_per_stage: int = 2
    sigmoid_units: int = 4
    vector_divide_stages: int = 29

    def __post_init__(self) -> None:
        for name, least, most in (
            ("wh_words", 8, 4096),
            ("wl_words", 8, 4096),
            ("al_groups", 1, 4096),
            ("av_groups", 1, 4096),
            ("rt_rows", 2, 4096),
            ("vt_rows", 2, 4096),
            ("lt_rows", 2, 4096),
            ("xm_words", 2, 4096),
            ("instructions", 16, 2048),
            ("descriptors", 2, 4096),
            ("queue_depth", 2, 64),
        ):
            value = getattr(self, name)
            require(
                is_power_of_two(value) and least <= value <= most,
                f"PE {name}",
                f"a power of two from {least} to {most}",
                value,
            )
        for name, least, most in (
            ("watchdog_cycles", 64, 1 << 24),
            ("fetch", GROUP_FETCH_CYCLES, 64),
            ("vector_read_stages", 1, 2),
            ("vector_add_stages", 1, 5),
            ("vector_mul_stages", 1, 4),
            ("vector_write_stages", 1, 2),
            ("max_levels_per_stage", 1, 6),
            ("sigmoid_units", 1, 64),
            ("vector_divide_stages", 1, 29),
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and least <= value <= most,
                f"PE {name}",
                f"an integer from {least} to {most}",
                value,
            )
