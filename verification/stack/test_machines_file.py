"""``--machine my.toml``: units, inheritance, and messages with file, line and key."""

from __future__ import annotations

import pytest

from hw.errors import UserError
from sw_stack.machines.catalogue import machine, machines
from sw_stack.machines.energy import energy_table
from sw_stack.machines.machine_file import load_machine
from sw_stack.machines.units import convert

GOOD = """inherits = "elmoe3d-8gb"
methods = ["none", "elastic"]

[chip]
pes = 16
[hb]
part = "hb500"
row_bytes = "16 KiB"
temperature_c = "95 C"
[lpddr]
bandwidth = "51.2 GB/s"
[lpddr.organization]
row_bytes = "4 KiB"
[lpddr.timing]
tRCD_ns = "0.02 us"
[links]
stream_gb_per_s = "64000 MB/s"
[static]
logic_w = "250 mW"
[energy]
hb_read = "660 fJ/bit"
"""


def write(tmp_path, text: str) -> str:
    path = tmp_path / "my.toml"
    path.write_text(text)
    return str(path)


def test_fields_are_replaced_and_the_rest_inherited(tmp_path):
    """Every way to override, each with a unit, by hand; what is not named is the preset's."""
    base, m = machine("elmoe3d-8gb"), load_machine(write(tmp_path, GOOD))
    assert (m.name, m.methods, m.chip.pes) == ("my", ("none", "elastic"), 16)
    assert m.hb_gb_per_s == pytest.approx(16 * 64)  # 1024 bit at 500 Mb/s
    assert (m.chip.hb.row_bytes, m.hb_capacity_bytes) == (16384, 4 * 2**30)
    assert m.chip.hb.timing.tREFI_ns == 3900
    assert m.lpddr_gb_per_s == pytest.approx(51.2) and m.lpddr.organization.channels == 4
    assert m.lpddr.timing.tRCD_ns == pytest.approx(20)
    assert (m.links.stream_gb_per_s.value, m.links.stream_gb_per_s.kind) == (pytest.approx(64), "assumed")
    assert m.lpddr.organization.row_bytes == 4096
    assert (m.static.logic_w.value, m.static.logic_w.low, m.static.logic_w.high) == (pytest.approx(0.25), None, None)
    assert energy_table(m).prices["hb_read_bytes"][2].value == pytest.approx(0.66)
    assert (m.links.hop_ns, m.host, m.mappings, m.hb_use) == (base.links.hop_ns, base.host, base.mappings, base.hb_use)
    assert "my.toml" in m.definition and "my.toml" in m.links.stream_gb_per_s.source


def test_every_preset_can_be_inherited(tmp_path):
    """A file with nothing but ``inherits`` is the preset under another name."""
    for name, base in machines().items():
        m = load_machine(write(tmp_path, f'inherits = "{name}"\n'))
        assert (m.chip, m.lpddr, m.near_memory, m.gpu) == (base.chip, base.lpddr, base.near_memory, base.gpu)
    assert load_machine("xpu") is machine("xpu")


def test_gpu_and_near_memory_numbers(tmp_path):
    """Numbers of a GPU and of units in the memory are replaced in their units; shares take percent."""
    gpu = load_machine(write(tmp_path, 'inherits = "h100"\n[gpu]\nmemory_efficiency = "80 %"\nboard_w = "0.5 kW"\n'))
    assert (gpu.gpu.memory_efficiency.value, gpu.gpu.board_w.value) == (pytest.approx(0.8), pytest.approx(500))
    pim = load_machine(write(tmp_path, 'inherits = "xpu-pim"\n[near_memory]\nranks = 1\nblocks_external = false\n'))
    assert pim.near_memory.peak_gb_per_s(pim.lpddr) == pytest.approx(819.2)
    assert not pim.near_memory.blocks_external


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"my\.toml: inherits must name a preset: elmoe3d-4gb"),
        ('inherits = "elmoe3d-9gb"', r"my\.toml:1: unknown machine 'elmoe3d-9gb'; did you mean elmoe3d-8gb"),
        ('inherits = "xpu"\nlinkz = 1', r"my\.toml:2: unknown key 'linkz'; did you mean links"),
        (
            'inherits = "xpu"\n\n[links]\nstreem_gb_per_s = 1',
            r"toml:4: unknown key 'streem_gb_per_s' in \[links\]; did",
        ),
        (
            'inherits = "xpu"\n[links]\nstream_gb_per_s = "64 GB"',
            r"toml:3: stream_gb_per_s must be in GB/s, not '64 GB'",
        ),
        ('inherits = "xpu"\n[links]\nstream_gb_per_s = "fast"', r"toml:3: .*a number with the unit 'GB/s', not 'fast'"),
        (
            'inherits = "xpu"\n[links]\nstream_gb_per_s = -1',
            r"toml:3: stream_gb_per_s a number in GB/s must be at least",
        ),
        (
            'inherits = "xpu"\n[lpddr]\nbandwidth = "50 GB/s"',
            r"toml:3: bandwidth must be 12\.8 GB/s per channel times a",
        ),
        ('inherits = "xpu"\n[lpddr.timing]\ntRCD_ns = "1 ns"\ntRAS_ns = 0.5', r"toml:4: timing tRAS_ns must be"),
        (
            'inherits = "xpu"\n[lpddr.timing]\ntRDC_ns = 1',
            r"toml:3: unknown key 'tRDC_ns' in \[lpddr\.timing\]; did you",
        ),
        ('inherits = "xpu"\n[chip]\npes = 1000', r"toml:2: chip pes must be an integer from 1 to 256, not 1000"),
        ('inherits = "xpu"\n[hb]\nbandwidth = "25.6 GB/s"', r"toml:2: HB data_bits must be 1024, not 512"),
        ('inherits = "xpu"\n[near_memory]\nranks = 1', r"toml:2: xpu has no near_memory"),
        ('inherits = "h100"\n[chip]\npes = 1', r"toml:2: h100 is a GPU"),
        ('inherits = "h100"\n[gpu]\nboard_w = "700 V"', r"toml:3: board_w must be in W, not '700 V'"),
        (
            'inherits = "xpu"\n[energy]\nhb_reed = 1',
            r"toml:3: unknown key 'hb_reed' in \[energy\]; did you mean hb_read",
        ),
        ('inherits = "xpu"\n[energy]\nnear_memory_mac = 1', r"toml:3: .*set it in \[near_memory\]"),
        ('inherits = "xpu"\nmethods = ["none", "elastic"]', r"toml: machine my: method elastic needs MSB slices"),
        ('inherits = "xpu"\nmethods = "none"', r"toml:2: methods must be a list of names"),
        ('inherits = "xpu"\nlinks = 3', r"toml:2: links must be a table"),
        ('inherits = "xpu', r"my\.toml: not TOML: .*line 1"),
    ],
)
def test_mistakes_name_file_line_and_key(tmp_path, text, message):
    """One line each, with the nearest valid name where there is one."""
    with pytest.raises(UserError, match=message) as caught:
        load_machine(write(tmp_path, text + "\n"))
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files(tmp_path):
    """A file that is not there, or is not text, is one line."""
    with pytest.raises(UserError, match=r"no\.toml cannot be read: No such file"):
        load_machine(str(tmp_path / "no.toml"))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"b\.toml cannot be read"):
        load_machine(str(tmp_path / "b.toml"))


def test_units_by_hand():
    """Decimal and binary prefixes, times, energies; a plain number is in the field's unit."""
    assert convert("1.5 TB/s", "GB/s") == pytest.approx(1500)
    assert convert("1 GiB/s", "GB/s") == pytest.approx(1.073741824)
    assert convert("2 KiB", "B") == 2048
    assert convert("8 pJ/B", "pJ/bit") == pytest.approx(1)
    assert convert("3 ranks", "ranks") == convert(3, "ranks") == convert("3", "ranks") == 3
    for wrong in ("3 tokens", True, None, "1e GB/s", [1]):
        with pytest.raises(UserError):
            convert(wrong, "ranks")
