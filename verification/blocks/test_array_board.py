"""The array's board at its UART pins: groups loaded over the line, results equal to the functional numerics."""

import dataclasses

import numpy as np

from hw.array.group_accumulator import ResultBeat
from hw.array.mac_array import ActivationBeat
from hw.array.weight_feed import TileBeat
from hw.die.array_board import BEATS, ENTRY_WORDS, ArrayBoard, array_board_map
from hw.params import chip
from rtl_gen.boards import board
from sw_stack.host.link import request_frame
from verification.bench.array_program import activation_payloads, expected_results, random_program, tile_payloads
from verification.bench.payloads import pack
from verification.blocks.test_uart import CYCLES_PER_BIT, exchange, response

PARAMS = dataclasses.replace(chip("fpga-small").array, columns=1, depth=4)
MAP = array_board_map(PARAMS)


def _words(layout, payloads) -> list[int]:
    """Payloads as the window's words."""
    bits = [pack(layout, payload) for payload in payloads]
    return [value >> 32 * i & 0xFFFFFFFF for value in bits for i in range(ENTRY_WORDS)]


def _writes(name: str, words: list[int]):
    """Frames that fill a window, each with a pause for its answer."""
    address, _ = MAP.find(f"array.{name}")
    for start in range(0, len(words), 64):
        yield request_frame(address + 4 * start, words=words[start : start + 64])
        yield 300


def test_groups_over_the_line():
    """Two random groups in mixed modes: every result bit is the functional numerics', and the beats are counted."""
    program = random_program(PARAMS, 2, np.random.default_rng(3))
    tiles, activations = tile_payloads(PARAMS, program), activation_payloads(PARAMS, program)
    assert len(tiles) <= BEATS
    assert len(activations) <= BEATS
    results = [pack(ResultBeat(PARAMS), each) for each in expected_results(PARAMS, program)]
    frames = [
        *_writes("TILES", _words(TileBeat(PARAMS), tiles)),
        *_writes("ACTIVATIONS", _words(ActivationBeat(PARAMS), activations)),
        *_writes("TILE_COUNT", [len(tiles), len(activations)]),
        *_writes("CONTROL", [1]),
    ]
    count = ENTRY_WORDS * len(results)
    reads = [
        request_frame(MAP.find("array.RESULT_COUNT")[0], count=2),
        400,
        request_frame(MAP.find("array.RESULTS")[0], count=count),
        10 * (4 * count + 20),
    ]
    found = exchange(*frames, *reads, dut=ArrayBoard(PARAMS, CYCLES_PER_BIT))
    assert results
    answer = response(0, 2, len(results), len(activations))
    words = [value >> 32 * i & 0xFFFFFFFF for value in results for i in range(ENTRY_WORDS)]
    assert found.endswith(answer + response(0, count, *words))


def test_what_the_board_builds():
    """The board file builds this very array."""
    built = board("ice40_hx8k").machine(chip("fpga-small"), 12)
    built._MustUse__silence = True
    assert built.slice_macs == PARAMS.slice_macs == 8
