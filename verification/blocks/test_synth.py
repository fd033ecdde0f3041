"""Synthesis and the cost study: counts worked by hand, a small Liberty file of our own, mistakes in one line."""

import gzip
import json

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.dot_product import DotProduct
from hw.params import chip
from rtl_gen import synth
from rtl_gen.cost_study import UNITS, BitInsertion, CostStudy
from rtl_gen.liberty import read_liberty
from rtl_gen.synth import Synthesis, synthesise
from sw_stack.commands.main import main


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def _arc(pin: str, sense: str) -> str:
    table = 'index_1 ("1, 100"); index_2 ("1, 100"); values ("10, 20", "12, 22");'
    tables = " ".join(
        f"{kind} (grid) {{ {table} }}" for kind in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    return f'timing () {{ related_pin : "{pin}"; timing_sense : {sense}; {tables} }}'


def _gate(name: str, area: float, function: str, pins: str, sense: str) -> str:
    inputs = " ".join(f"pin ({pin}) {{ direction : input; capacitance : 1; }}" for pin in pins)
    arcs = " ".join(_arc(pin, sense) for pin in pins)
    output = f'pin (Y) {{ direction : output; function : "{function}"; max_capacitance : 100; {arcs} }}'
    return f"cell ({name}) {{ area : {area}; {inputs} {output} }}"


# Four cells with areas that are easy to add up.
LIBERTY = "\n".join(
    [
        'library (four_cells) { delay_model : table_lookup; time_unit : "1ps"; capacitive_load_unit (1, ff);',
        "lu_table_template (grid) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;",
        'index_1 ("1, 100"); index_2 ("1, 100"); }',
        _gate("INV", 1.0, "!A", "A", "negative_unate"),
        _gate("BUF", 2.0, "A", "A", "positive_unate"),
        _gate("NAND2", 3.0, "!(A * B)", "AB", "negative_unate"),
        'cell (DFF) { area : 20.0; ff (IQ, IQN) { clocked_on : "CLK"; next_state : "D"; }',
        "pin (CLK) { direction : input; clock : true; capacitance : 1; }",
        "pin (D) { direction : input; capacitance : 1; }",
        'pin (Q) { direction : output; function : "IQ"; max_capacitance : 100; } }',
        "}",
    ]
)


class _FourBits(wiring.Component):
    """``q`` is ``~(a & b)`` of the cycle before, without reset: four NAND gates, four flip-flops."""

    a: In(4)
    b: In(4)
    q: Out(4)

    def elaborate(self, platform):
        m = Module()
        register = Signal(4, reset_less=True)
        m.d.sync += register.eq(~(self.a & self.b))
        m.d.comb += self.q.eq(register)
        return m


def test_one_gate_per_mac():
    """The bit inserted per MAC is one OR gate per lane: 8 gates of 6 transistors, 1.5 GE each, one deep."""
    params = chip("tiny").array
    assert synthesise(BitInsertion(params), "bit_insertion") == Synthesis(8, 0, 12.0, "GE", None, 1)


def test_flip_flops_by_hand():
    """A tiny dot unit holds 8 products of 13 bits, two sums of 15 and the result of 16: 150 flip-flops."""
    result = synthesise(DotProduct(chip("tiny").array), "dot_unit")
    assert result.flip_flops == 8 * 13 + 2 * 15 + 16
    assert result.cells > result.flip_flops
    assert result.depth > 4


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_liberty_areas_by_hand(tmp_path, packed):
    """Four NAND gates of 3 and four flip-flops of 20: area 92, with timing from the same file."""
    path = tmp_path / ("cells.lib.gz" if packed else "cells.lib")
    path.write_bytes(gzip.compress(LIBERTY.encode()) if packed else LIBERTY.encode())
    liberty = read_liberty(path)
    assert liberty.areas == {"INV": 1.0, "BUF": 2.0, "NAND2": 3.0, "DFF": 20.0}
    assert liberty.flip_flop_area == 20.0
    result = synthesise(_FourBits(), "four_bits", liberty)
    assert (result.cells, result.flip_flops, result.area) == (8, 4, 92.0)
    assert 5 < result.delay_ps < 40  # one gate of 10 to 22 ps by the table
    assert result.slack_ps == 1000 - result.delay_ps


def test_delay_relative_to_the_yardstick():
    """ABC's file: a yardstick of 1500 ps, then netlists of 20.0 % and 54.1 % of its delay; worked by hand."""
    assert synth._slowest("\nnetlist 64 64 5000 600 1500  10.0 9.0 20.0 0.5 1.0 1.0 54.1 0.6") == 811.5
    assert synth._slowest("\nnetlist 64 64 5000 600 1500 ") is None


def test_results_are_remembered(monkeypatch):
    """The second synthesis of the same design runs no tool; another design does."""
    first = synthesise(BitInsertion(chip("tiny").array), "bit_insertion")

    def refuse(*arguments):
        raise RuntimeError("Yosys was run")

    monkeypatch.setattr(synth, "run_yosys", refuse)
    assert synthesise(BitInsertion(chip("tiny").array), "bit_insertion") == first
    with pytest.raises(RuntimeError, match="Yosys was run"):
        synthesise(BitInsertion(chip("4gb").array), "bit_insertion")


def test_study_arithmetic():
    """Placements, native comparison and array sum from round areas, worked by hand for the tiny array (4 rows)."""
    area = {
        "dot_unit": 100,
        "select_absent": 4,
        "select_augmented": 8,
        "bit_insertion": 2,
        "weight_decoder": 20,
        "native_dot_unit": 160,
        "scale_multiplier": 30,
        "fp32_adder": 50,
        "weight_column": 60,
        "mac_column": 410,
        "accumulator_column": 1000,
    }
    assert area.keys() == UNITS.keys()
    units = {name: Synthesis(1, 0, float(value), "GE", None, 1) for name, value in area.items()}
    study = CostStudy(chip("tiny"), units, flip_flop_area=1.0)
    assert [place.area for place in study.placements] == [101, 102, 103, 108, 105]
    assert study.placements[1].overhead_percent == pytest.approx(100 / 101)
    assert study.two_slices_over_native_percent == 25.0
    assert study.storage_bits == 4 * 4 * 4 * 32
    parts = study.array_area  # 4 columns with 2 FP32 units each
    assert (parts["FP32 units"], parts["chain storage, flip-flops"]) == (640, 2048)
    assert parts["total"] == 4 * (60 + 410 + 1000)


def _edited(old: str, new: str) -> bytes:
    assert old in LIBERTY
    return LIBERTY.replace(old, new).encode()


WRONG = {
    "not there": (None, "cannot be read"),
    "not Liberty": (b"hello", "must start a library"),
    "cut short": (LIBERTY.encode()[: len(LIBERTY) // 2], "balanced braces"),
    "a damaged gzip": (gzip.compress(LIBERTY.encode())[:200], "not damaged"),
    "binary": (b"\xff\xfe\x00library (x) {}", "not damaged"),
    "a cell without area": (_edited("area : 3.0;", ""), "cell NAND2 must have an area"),
    "no flip-flop": (_edited("ff (IQ, IQN)", "latch (IQ, IQN)"), "a flip-flop"),
    "a flip-flop that no design can be mapped to": (
        _edited('next_state : "D"', 'next_state : "D * E"'),
        "could not map",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_bad_liberty_is_one_line(mistake, capsys, tmp_path):
    """Every bad Liberty file: one line that names it or the reason, exit status 2, no JSON written."""
    content, message = WRONG[mistake]
    path = tmp_path / "bad.lib"
    if content is not None:
        path.write_bytes(content)
    block = ["--block", "dot_product", "--chip", "tiny"]
    with pytest.raises(SystemExit) as stop:
        main(["synth", *block, "--liberty", str(path), "--json", str(tmp_path / "result.json"), "--quiet"])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "result.json").exists()


def test_command_on_one_block(capsys, tmp_path):
    """One block: its table is printed and the JSON carries the same numbers."""
    with pytest.raises(SystemExit) as stop:
        main(["synth", "--block", "slice_mac", "--chip", "tiny", "--json", "out.json", "--quiet"])
    assert stop.value.code == 0
    unit = json.loads((tmp_path / "out.json").read_text())["units"]["slice_mac"]
    assert f"{unit['area']:,.1f}" in capsys.readouterr().out
    assert unit["flip_flops"] == 0


@pytest.mark.full
def test_whole_study(capsys):
    """The study at the tiny size with generic gates: placements in the order that their gates imply."""
    with pytest.raises(SystemExit) as stop:
        main(["synth", "--chip", "tiny", "--json", "out.json", "--quiet"])
    assert stop.value.code == 0
    with open("out.json") as file:
        places = {place["name"]: place["overhead_percent"] for place in json.load(file)["placements"]}
    assert 0 == places["absent"] < places["shared per weight"] < places["bit inserted per MAC"]
    assert places["bit inserted per MAC"] < places["selection per MAC"]
