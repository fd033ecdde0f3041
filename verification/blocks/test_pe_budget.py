"""The on-chip budget of docs/pe.md is what the RTL of the published PE holds."""

import re

from amaranth.hdl import Fragment
from amaranth.hdl._ir import Instance

from hw.hierarchy import DefineOnce
from hw.params import chip
from hw.pe.pe import Pe

# Memory -> bytes, readers (copies), words, bytes written at once; by hand from docs/pe.md's table.
BUDGET = {
    "wh": (16384, 1, 128, 128),
    "wl": (16384, 1, 128, 128),
    "al": (16384, 1, 32, 128),
    "av": (16384, 1, 32, 32),
    "rt": (16384, 2, 128, 128),
    "vector.tiles": (16384, 2, 128, 128),
    "lt": (8192, 2, 64, 128),
    "xm": (8192, 1, 64, 32),
    "sequencer.instructions": (512 * 20, 1, 512, 4),
    "sequencer.descriptors": (4096, 1, 1024, 4),
}
SRAM = re.compile(r"sram_(\d+)x(\d+)(?:_by_(\d+))?$")


def _srams(fragment, path=()):
    """(path, depth, width, granule) of every SRAM of a design elaborated for export."""
    for child, name, _ in fragment.subfragments:
        if not isinstance(child, Instance):
            yield from _srams(child, (*path, name))
        elif match := SRAM.match(child.type):
            depth, width, granule = (int(each or 0) for each in match.groups())
            yield (*path, name), depth, width, granule or width


def test_memories_are_those_of_the_table():
    """Size, copies, depth and write granularity of every SRAM of the published PE; 32 KB of weights, 32 KB of I/O."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for path, depth, width, granule in _srams(Fragment.get(Pe(chip("4gb")), DefineOnce())):
        name = ".".join(part for part in path if not part.startswith(("copy_", "bank_")))
        found.setdefault(name, []).append((depth, width, granule))
    assert found.keys() == BUDGET.keys()
    for name, (size, copies, words, granule_bytes) in BUDGET.items():
        parts = found[name]
        assert sum(depth * width for depth, width, _ in parts) == 8 * size * copies, name
        assert sum(depth for depth, _, _ in parts) == words * copies, name
        assert {granule for _, _, granule in parts} == {8 * granule_bytes}, name
    assert BUDGET["wh"][0] + BUDGET["wl"][0] == BUDGET["al"][0] + BUDGET["av"][0] == 32 * 1024
