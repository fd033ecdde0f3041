"""Verilog export: same bytes, clean under three tools, one column defined once, a sidecar that tells the truth."""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.hierarchy import Repeated, add_repeated
from hw.params import CHIPS
from rtl_gen.blocks import BLOCKS
from rtl_gen.rtlil import tidy
from rtl_gen.verilog import Exported, convert, export, write
from sw_stack.commands.main import main
from verification.bench import lint
from verification.bench.payloads import pack, unpack

MACHINES = ("pe_axi", "axi_machine", "hbm_machine")
"""Made of other blocks; the hand-over's test lints machines in CI."""
BLOCKS_IN_CI = [pytest.param(name, marks=pytest.mark.full) if name in MACHINES else name for name in BLOCKS]
LINTERS = (lint.verilator, lint.icarus, lint.yosys)


@cache
def _exported(block: str) -> Exported:
    return export(block, "tiny")


def _fresh_process(block: str, chip: str, hash_seed: int) -> dict:
    """Export in a process of its own: sha256 of the Verilog and of the sidecar, CPU seconds, peak MiB, bytes."""
    script = (
        "import hashlib, json, resource, sys\n"
        "from rtl_gen.verilog import export\n"
        f"e = export({block!r}, {chip!r})\n"
        "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
        "sha = lambda text: hashlib.sha256(text.encode()).hexdigest()\n"
        "print(json.dumps({'verilog': sha(e.verilog), 'sidecar': sha(json.dumps(e.sidecar)),\n"
        "  'bytes': len(e.verilog.encode()), 'modules': e.modules, 'text': e.verilog,\n"
        "  'seconds': sum(u.ru_utime + u.ru_stime for u in used), 'mib': max(u.ru_maxrss for u in used) / 1024}))\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def test_same_bytes_in_every_process():
    """Two processes with other hash seeds, and this one, export the same Verilog and sidecar."""
    first, second = (_fresh_process("weight_feed", "tiny", seed) for seed in (1, 2))
    here = hashlib.sha256(export("weight_feed", "tiny").verilog.encode()).hexdigest()
    assert first["verilog"] == second["verilog"] == here
    assert first["sidecar"] == second["sidecar"]


def _instances(text: str, top: str, leaf: str) -> int:
    """Copies of module ``leaf`` below ``top``, multiplied down the hierarchy of the Verilog text."""
    bodies = re.findall(r"^module (\w+)\(.*?;\n(.*?)^endmodule", text, re.MULTILINE | re.DOTALL)
    children = {name: re.findall(r"^  (\w+) \w+ \($", body, re.MULTILINE) for name, body in bodies}

    @cache
    def count(module: str) -> int:
        return 1 if module == leaf else sum(map(count, children[module]))

    return count(top)


def test_full_size_array_is_small():
    """16 x 32 x 32 = 16,384 slice MACs: below 20 s of CPU, 500 MiB and 2 MB, every column's module defined once."""
    measured = _fresh_process("pe_array", "4gb", 0)
    text = measured.pop("text")
    print({key: measured[key] for key in ("seconds", "mib", "bytes", "modules")})
    assert measured["seconds"] < 20
    assert measured["mib"] < 500
    assert measured["bytes"] < 2_000_000
    definitions = re.findall(r"^module (\w+)", text, re.MULTILINE)
    assert len(definitions) == len(set(definitions))
    mac = next(name for name in definitions if name.startswith("slice_mac"))
    assert _instances(text, "pe_array", mac) == 16_384
    # Readable: no name needs Verilog's escaping, and no line is a wall of text beyond the wide concatenations.
    assert "\\" not in text
    assert "verilog_backend" not in text


@pytest.mark.parametrize("block", BLOCKS_IN_CI)
def test_lint_tiny(block, tmp_path):
    """No complaint beyond the stated waivers, for every block at the tiny size."""
    source, _ = write(_exported(block), tmp_path)
    assert [linter(source, block) for linter in LINTERS] == ["", "", ""]


@pytest.mark.full
@pytest.mark.parametrize("chip", [name for name in CHIPS if name != "tiny"])
@pytest.mark.parametrize("block", BLOCKS)
def test_lint_all_sizes(block, chip, tmp_path):
    """No complaint beyond the stated waivers, for every block at every other size."""
    source, _ = write(export(block, chip), tmp_path)
    assert [linter(source, block) for linter in LINTERS] == ["", "", ""]


# Mistakes that each tool must name, so that an empty complaint means something.
WRONG = {
    "a dropped bit": (lint.verilator, "wire [7:0] t = {1'h0, a} + 8'h1; assign y = t[7:0] * 9'h3;"),
    "a latch": (lint.verilator, "reg [7:0] r; always @* if (a[0]) r = 8'h1; assign y = r;"),
    "an unknown net": (lint.icarus, "assign y = b;"),
    "an undriven net": (lint.yosys, "wire [7:0] t; assign y = t + 1;"),
    "two drivers": (lint.yosys, "assign y = {a, 1'b0}; assign y = {1'b0, a};"),
    "a combinational loop": (lint.yosys, "wire [7:0] t; assign t = t + 1; assign y = t;"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_lint_refuses(mistake, tmp_path):
    """Each linter, waivers included, complains about a planted mistake."""
    linter, body = WRONG[mistake]
    source = tmp_path / "wrong.v"
    source.write_text(f"module wrong(input [6:0] a, output [7:0] y);\n{body}\nendmodule\n")
    assert linter(source, "wrong") != ""


@pytest.mark.parametrize("block", BLOCKS_IN_CI)
def test_sidecar_ports(block):
    """The sidecar lists the ports that the Verilog declares, names the file's bytes, and states the latency."""
    exported = _exported(block)
    sidecar = json.loads(json.dumps(exported.sidecar))
    body = exported.verilog.split(f"module {block}(", 1)[1].split("endmodule", 1)[0]
    declared = {
        name: ("in" if direction == "input" else "out", int(high or 0) + 1)
        for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, re.MULTILINE)
    }
    if sidecar["clock"]:
        assert declared.pop("clk") == declared.pop("rst") == ("in", 1)
    assert {port["name"]: (port["direction"], port["width"]) for port in sidecar["ports"]} == declared
    assert sidecar["verilog_sha256"] == hashlib.sha256(exported.verilog.encode()).hexdigest()
    assert sidecar["latency_cycles"] == getattr(exported.component, "latency", None)
    for stream, ports in sidecar["streams"].items():
        assert {f"{stream}__{role}" for role in ("payload", "valid", "ready")} <= declared.keys(), ports


def _fields(shape: dict, bits: int) -> object:
    """Unpack ``bits`` by the sidecar's layout alone."""
    if shape["kind"] == "struct":
        return {field["name"]: _fields(field, bits >> field["offset"]) for field in shape["fields"]}
    if shape["kind"] == "array":
        element = shape["element"]
        return [_fields(element, bits >> (i * element["width"])) for i in range(shape["length"])]
    value = bits & ((1 << shape["width"]) - 1)
    return value - (1 << shape["width"]) if shape["kind"] == "signed" and value >> (shape["width"] - 1) else value


@pytest.mark.parametrize("stream", ["tiles", "activations", "results"])
def test_sidecar_layouts(stream):
    """A payload unpacked by the sidecar alone has the fields that the component's own layout gives it."""
    exported = _exported("pe_array")
    ports = {port["name"]: port for port in exported.sidecar["ports"]}
    layout = getattr(exported.component, stream).payload.shape()
    rng = np.random.default_rng(3)
    bits = int.from_bytes(rng.bytes(ports[f"{stream}__payload"]["width"] // 8 + 1), "little")
    bits &= (1 << ports[f"{stream}__payload"]["width"]) - 1
    fields = _fields(ports[f"{stream}__payload"], bits)
    assert fields == unpack(layout, bits)
    assert pack(layout, fields) == bits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--block", "pe_aray"], "unknown block 'pe_aray'; did you mean pe_array?"),
        (["--chip", "4gbx"], "unknown chip '4gbx'; did you mean 4gb?"),
        (["--block", "slice_mac", "--out", "/proc/nowhere"], "/proc/nowhere/slice_mac.v cannot be written"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    """Unknown names and an unwritable folder: one line, exit status 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["verilog", *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_command_writes_both_files(capsys, monkeypatch, tmp_path):
    """The command writes the Verilog and its sidecar into build/verilog/CHIP and prints one line per block."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["verilog", "--block", "slice_mac", "--chip", "tiny"])
    assert stop.value.code == 0
    folder = tmp_path / "build/verilog/tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["slice_mac.json", "slice_mac.v"]
    digest = hashlib.sha256((folder / "slice_mac.v").read_bytes()).hexdigest()
    assert json.loads((folder / "slice_mac.json").read_text())["verilog_sha256"] == digest
    assert capsys.readouterr().out.count("\n") == 1


class _Adder(Repeated):
    clocked = False

    def __init__(self, width: int):
        self.module_name = "adder"
        super().__init__({"a": In(width), "y": Out(width)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.y.eq(self.a + 1)
        return m


class _Pair(wiring.Component):
    def __init__(self, widths: tuple[int, int]):
        self._widths = widths
        super().__init__({"a": In(8), "y": Out(8), "z": Out(8)})

    def elaborate(self, platform):
        m = Module()
        for n, (width, out) in enumerate(zip(self._widths, (self.y, self.z), strict=True)):
            adder = _Adder(width)
            add_repeated(m, f"adder_{n}", adder, platform)
            m.d.comb += [adder.a.eq(self.a), out.eq(adder.y)]
        return m


def test_one_name_is_one_module():
    """Equal repeated children share a definition; different ones under one name are refused."""
    text = convert(_Pair((8, 8)), "pair", "two adders")
    assert len(re.findall(r"^module adder\(", text, re.MULTILINE)) == 1
    with pytest.raises(ValueError, match="two different modules are called adder"):
        convert(_Pair((8, 4)), "pair", "two adders")


RAW = r"""
attribute \generator "Amaranth"
module \top
  wire width 4 \sum$3
  wire width 4 \unread
  wire width 4 $1
  wire width 5 $2
  attribute \init 4'0000
  wire width 4 \count_q
  wire width 4 input 0 \a
  wire width 1 input 1 \clk
  wire width 4 output 2 \y
  cell $add $9
    parameter \A_SIGNED 0
    connect \A \a [3:0]
    connect \B 4'0001
    connect \Y $1
  end
  cell $add $8
    connect \A \a [3:0]
    connect \B 4'0010
    connect \Y $2
  end
  cell $dff $10
    connect \D $1 [3:0]
    connect \CLK \clk [0]
    connect \Q \sum$3
  end
  connect \count_q \sum$3 [3:0]
  connect \unread \a [3:0]
  connect \y \sum$3 [3:0]
end
"""
TIDY = r"""module \top
  wire width 4 \y_next
  wire width 4 input 2 \a
  wire width 1 input 1 \clk
  wire width 4 output 3 \y
  cell $add $9
    parameter \A_SIGNED 0
    connect \A \a [3:0]
    connect \B 4'0001
    connect \Y \y_next
  end
  cell $dff $10
    connect \D \y_next [3:0]
    connect \CLK \clk [0]
    connect \Q \y
  end
end
"""


def test_tidy_by_hand():
    """Aliases merge into the port's name, what nothing reads goes, clk comes first; worked by hand."""
    assert tidy(RAW, ["a", "y"]) == TIDY


@pytest.mark.parametrize("line", ["connect { \\a \\b } \\c", "  something else"])
def test_tidy_refuses_what_it_does_not_know(line):
    """A construct that Amaranth does not emit today is an error, not silently dropped."""
    with pytest.raises(ValueError, match="unexpected RTLIL"):
        tidy(f"module \\top\n{line}\nend\n", [])
