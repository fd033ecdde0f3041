"""Phases of a board's build: kept while their input stays, refused in one line, ended in time."""

import re
import time
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib.memory import Memory

from hw.errors import UserError
from rtl_gen import phases
from rtl_gen.fpga import NO_COLLISIONS
from rtl_gen.yosys import run_yosys

SCRIPT = """#!/bin/sh
set -e
: ${YOSYS:=yosys}
"$YOSYS" -q top.ys
"$NEXTPNR_ECP5" --lpf top.lpf
"""
FILES = {"top.ys": "read_rtlil top.il\n", "top.il": "module", "top.lpf": "pins"}


@pytest.fixture
def builder(tmp_path):
    """Runs the script with two stand-ins for tools; the function returns what was told, and what ran."""
    folder = tmp_path / "build"
    folder.mkdir()
    tools = {}
    for variable, output in (("YOSYS", "top.json"), ("NEXTPNR_ECP5", "top.config")):
        tool = tmp_path / variable.lower()
        trouble = f"[ -f ../{variable} ] && . ../{variable}"
        tool.write_text(f"#!/bin/sh\necho {variable} >> ../ran\n{trouble}\ndate > {output}\n")
        tool.chmod(0o755)
        tools[variable] = str(tool)

    told = []

    def run(files=FILES, timeout=20.0):
        told.clear()
        ran = tmp_path / "ran"
        ran.unlink(missing_ok=True)
        seconds = phases.run_phases(folder, SCRIPT, files, tools, timeout, told.append)
        return list(told), ran.read_text().split() if ran.exists() else [], seconds

    run.told = told
    return run


def test_phases_run_again_where_their_input_changed(builder, tmp_path):
    """Nothing runs twice for the same input; new constraints run placement, a new design both, a lost file its own."""
    told, ran, seconds = builder()
    assert ran == ["YOSYS", "NEXTPNR_ECP5"]
    assert [line.split(":")[0].split(" ...")[0] for line in told] == ["synthesis"] * 2 + ["place and route"] * 2
    told, ran, kept_seconds = builder()
    assert ran == [] and kept_seconds == pytest.approx(seconds)
    assert all("kept from an earlier build" in line for line in told)
    assert builder(FILES | {"top.lpf": "other pins"})[1] == ["NEXTPNR_ECP5"]
    assert builder(FILES | {"top.il": "other module", "top.lpf": "other pins"})[1] == ["YOSYS", "NEXTPNR_ECP5"]
    (tmp_path / "build" / "top.config").unlink()
    assert builder(FILES | {"top.il": "other module", "top.lpf": "other pins"})[1] == ["NEXTPNR_ECP5"]


def test_a_failing_phase_is_one_line_and_is_not_kept(builder, tmp_path):
    """The tool's own error; what ended well before it is kept, the failed one runs again."""
    trouble = tmp_path / "NEXTPNR_ECP5"
    trouble.write_text("echo 'Info: placing'; echo 'ERROR: no BELs remaining'; exit 255\n")
    with pytest.raises(UserError, match=r"^place and route failed: no BELs remaining$"):
        builder()
    trouble.unlink()
    assert builder()[1] == ["NEXTPNR_ECP5"]


def test_a_phase_that_does_not_end_is_ended(builder, tmp_path, monkeypatch):
    """After the time for all phases the tool is killed, its last line told; before that there are signs of life."""
    (tmp_path / "NEXTPNR_ECP5").write_text("echo $$ > ../pid; echo 'Info: iter=7 overused=12'; exec sleep 60\n")
    monkeypatch.setattr(phases, "PROGRESS_SECONDS", 0.6)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"place and route must end in time: [23] s passed; iter=7 overused=12"):
        builder(timeout=2.6)
    assert time.monotonic() - begin < 20
    assert "place and route: 1 s; iter=7 overused=12" in builder.told
    command_line = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/cmdline")
    while command_line.exists() and command_line.read_bytes():  # empty: killed, not yet buried
        assert time.monotonic() - begin < 20
        time.sleep(0.05)


def test_memories_may_collide_unless_they_say_otherwise(tmp_path):
    """The settings of board builds reach a memory's plain read port, and leave alone one that shows what is written."""
    m = Module()
    m.submodules.memory = memory = Memory(shape=8, depth=16, init=[])
    write = memory.write_port()
    plain, through = memory.read_port(), memory.read_port(transparent_for=[write])
    ports = [write.addr, write.data, write.en, plain.addr, plain.en, through.addr, through.en]
    text = rtlil.convert(m, ports=[*ports, plain.data, through.data], emit_src=False)
    (tmp_path / "design.il").write_text(text)
    done = run_yosys(f"read_rtlil design.il\n{NO_COLLISIONS}\nwrite_rtlil after.il\n", tmp_path)
    assert done.returncode == 0, done.stderr
    ports = (tmp_path / "after.il").read_text().split("cell $memrd_v2")[1:]
    names = ("TRANSPARENCY_MASK", "COLLISION_X_MASK")
    masks = [[re.search(rf"{name} (\S+)", port)[1] for name in names] for port in ports]
    assert masks == [["1'0", "1'1"], ["1'1", "1'0"]]
