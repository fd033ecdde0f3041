"""The machines: sizes against published figures, near-memory bandwidth worked by hand, what is legal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw.errors import UserError
from sw_stack.machines.capacity import fit, require_fit, weight_bytes
from sw_stack.machines.catalogue import machine, machines
from sw_stack.machines.document import DOCS, TABLES, with_tables
from sw_stack.machines.machine import HbUse
from sw_stack.machines.sourced import KINDS, Sourced
from sw_stack.models.catalogue import model

PROCESSORS = ("elmoe3d-4gb", "elmoe3d-8gb", "hb-xpu-4gb", "hb-xpu-8gb", "xpu", "xpu-pim", "xpu-logicpim", "xpu-nmp")
NAMES = [*PROCESSORS, "h100", "h200", "rtx4090", "rtx5090", "gb10", "orin", "thor"]


def test_names_of_the_vocabulary():
    """Exactly the fifteen presets; an unknown name is answered with the nearest."""
    assert list(machines()) == NAMES
    with pytest.raises(UserError, match="did you mean xpu-pim"):
        machine("xpu-pum")


def test_published_sizes():
    """4 GiB at 819.2 GB/s with 16 PEs, 8 GiB at 1638.4 with 32, 64 GiB of LPDDR5 at 102.4; 131 and 262 T W8A8 MAC/s."""
    for name, gib, rate, pes in (("elmoe3d-4gb", 4, 819.2, 16), ("elmoe3d-8gb", 8, 1638.4, 32)):
        m = machine(name)
        assert (m.hb_capacity_bytes, m.chip.pes) == (gib * 2**30, pes)
        assert m.hb_gb_per_s == pytest.approx(rate)
        assert (m.lpddr_gb_per_s, m.memory_bytes) == (pytest.approx(102.4), 64 * 2**30)
        assert m.slice_macs_per_ns == pes * 16384


def test_baselines_differ_only_where_they_say():
    """All processors have the same external memory and links; those without HB have the larger die's PEs."""
    processors = [m for m in machines().values() if not m.is_gpu]
    assert len({m.lpddr for m in processors}) == len({m.links for m in processors}) == 1
    assert {m.chip.pes for m in processors if not m.has_hb} == {32}
    assert machine("hb-xpu-8gb").chip == machine("elmoe3d-8gb").chip
    assert [m.name for m in processors if "elastic" in m.methods] == ["elmoe3d-4gb", "elmoe3d-8gb"]
    assert all(m.hb_use is HbUse.WHOLE_EXPERTS for m in processors if m.name.startswith("hb-xpu"))


def test_bank_pim_by_hand():
    """32 B per tCCD_L of 5 ns are 6.4 GB/s per bank; 16 banks x 2 ranks x 8 channels: 1,638.4 GB/s, 16 x external.

    A row of 64 accesses takes 64 x 5 + 18.75 + 10 + 18.75 - 5 = 362.5 ns, all-bank refresh takes 280 of 3,906 ns:
    1638.4 x 320 / 362.5 x (1 - 280 / 3906) = 1,342.6 GB/s. Power: 8 x 0.81 + 0.46 pJ/B x 1638.4 = 11.4 W.
    """
    m = machine("xpu-pim")
    unit = m.near_memory
    assert unit.units(m.lpddr) == 256
    assert unit.peak_gb_per_s(m.lpddr) == pytest.approx(16 * 102.4)
    assert unit.sustained_gb_per_s(m.lpddr) == pytest.approx(1638.4 * 320 / 362.5 * (1 - 280 / 3906), rel=1e-9)
    assert unit.macs_per_ns(m.lpddr) == pytest.approx(1638.4)  # 3.3 TOPS
    assert unit.stream_ns(256 * 2048, m.lpddr) == pytest.approx(362.5 / (1 - 280 / 3906))
    assert unit.stream_ns(0, m.lpddr) == 0
    assert unit.stream_ns(1, m.lpddr) == pytest.approx(61.25 / (1 - 280 / 3906))  # one access: tRC bounds the row


def test_power_limit_by_hand():
    """At 5.7 W half of the 11.37 W is allowed: half the bandwidth, and half the arithmetic with it."""
    m = machine("xpu-pim")
    watts = 1638.4 * (8 * 0.81 + 0.46) * 1e-3
    limited = replace(m.near_memory, power_limit_w=Sourced(watts / 2, "W", "assumed", "test"))
    assert watts == pytest.approx(11.37, abs=0.01)
    assert limited.peak_gb_per_s(m.lpddr) == pytest.approx(819.2)
    assert limited.macs_per_ns(m.lpddr) == pytest.approx(819.2)
    assert limited.sustained_gb_per_s(m.lpddr) == pytest.approx(2048 * 256 / ((64 * 10 + 37.5) / (1 - 280 / 3906)))


def test_logic_pim_and_nmp_by_hand():
    """Bank groups: 4 x 2 ranks x 8 channels x 6.4 GB/s = 409.6; near-bank PEs: 16 x 6 x 25.6 = 2,457.6 GB/s."""
    logic, nmp = machine("xpu-logicpim"), machine("xpu-nmp")
    assert logic.near_memory.peak_gb_per_s(logic.lpddr) == pytest.approx(4 * 102.4)
    assert logic.near_memory.macs_per_ns(logic.lpddr) * 2e-3 == pytest.approx(6.55, abs=0.01)  # TOPS
    assert nmp.near_memory.peak_gb_per_s(nmp.lpddr) == pytest.approx(2457.6)
    assert nmp.near_memory.macs_per_ns(nmp.lpddr) == pytest.approx(6 * 16 * 8 * 16 * 0.6)
    assert nmp.near_memory.capacity_bytes(nmp.lpddr) == 48 * 2**30
    # a long row turn hides behind the other banks of a group: all but one turn, and refresh, are left
    size = logic.near_memory.units(logic.lpddr) * 2048 * 100
    assert logic.near_memory.stream_ns(size, logic.lpddr) == pytest.approx((6400 * 5 + 42.5) / (1 - 280 / 3906))


def test_product_near_memory():
    """17 tokens of 2,048 inputs: a 32 KB buffer holds 16, so weights are read twice; 17 MACs per weight."""
    m = machine("xpu-nmp")
    cost = m.near_memory.product(1_000_000, 900_000, 17, 2048, m.lpddr)
    assert (cost.read_bytes, cost.macs) == (2_000_000, 17 * 900_000)
    slow = max(m.near_memory.stream_ns(2_000_000, m.lpddr), 17 * 900_000 / m.near_memory.macs_per_ns(m.lpddr))
    assert cost.ns == slow


def test_four_bit_rows():
    """A GPU's 4-bit row differs in name, precision and the copy that it does not need; processors have none."""
    row, base = machine("h100-int4"), machine("h100")
    assert (row.precision, row.gpu, row.methods) == ("int4", base.gpu, ("none", "slm", "eagle"))
    assert "other numerics" in row.note
    with pytest.raises(UserError, match="unknown machine 'xpu-int4'"):
        machine("xpu-int4")
    with pytest.raises(UserError, match="int8, or int4 on a GPU, not 'int4'"):
        replace(machine("xpu"), precision="int4")


def test_every_number_has_a_source():
    """Each number's kind is a known one; assumed ones say why; bands hold their values."""
    for each in machines().values():
        assert {name.split(".")[0] for name in each.numbers} >= (
            {"gpu"} if each.is_gpu else {"links", "host", "static"}
        )
        for name, number in each.numbers.items():
            assert number.kind in KINDS and len(number.source) > 10, (each.name, name)
            low, high = number.band
            assert low <= number.value <= high


def test_a_machine_must_hold_together():
    """Wrong combinations are refused in one line that names machine and rule."""
    proposed, gpu = machine("elmoe3d-8gb"), machine("h100")
    for changed, message in (
        ({"hb_use": HbUse.WHOLE_EXPERTS}, "elastic needs MSB slices in HB, not whole experts"),
        ({"methods": ("elastic",)}, "must hold 'none'"),
        ({"methods": ("none", "eagel")}, "did you mean eagle"),
        ({"mappings": ()}, "at least one mapping"),
        ({"lpddr": None}, "must have lpddr"),
        ({"gpu": gpu.gpu}, "a GPU or a processor, not both"),
    ):
        with pytest.raises(UserError, match=message):
            replace(proposed, **changed)
    pim = machine("xpu-pim")
    with pytest.raises(UserError, match=r"channels must be 1 to 8, not 9"):
        replace(pim, near_memory=replace(pim.near_memory, channels=9))
    with pytest.raises(UserError, match="at least 0 and finite, not -1"):
        Sourced(-1, "W", "assumed", "test")
    with pytest.raises(UserError, match="band in W must hold its value 1"):
        Sourced(1, "W", "assumed", "test", 2, 3)
    with pytest.raises(UserError, match="did you mean assumed"):
        Sourced(1, "W", "asumed", "test")


def test_what_does_not_fit_says_so():
    """30 B at 8.5 bit are 32 GB: not on 24 and 32 GB GPUs; at 4.5 bit they are 17.6 GB and fit both."""
    config = model("qwen3-30b-a3b").architecture()
    # by hand: 30.53 B parameters, of them the 151,936 x 2,048 embedding at 16 bit, norms left out
    assert weight_bytes(config) == pytest.approx((30.53e9 - 0.311e9) * 8.5 / 8 + 0.622e9, rel=1e-3)
    for name in ("rtx4090", "rtx5090"):
        assert not fit(machine(name), config).fits
        assert fit(machine(name), config, precision="int4").fits
        with pytest.raises(UserError, match=rf"does not fit {name}: 32\.7 GB at int8, (22|30)\.0 GB there"):
            require_fit(fit(machine(name), config))
    assert "17.6 GB at int4 would" in str(fit(machine("rtx4090"), config))
    assert "int4 would" not in str(fit(machine("rtx4090"), config, kv_bytes=10e9))
    assert fit(machine("rtx4090-int4"), config).fits
    assert all(fit(machine(n), config).fits for n in NAMES if n not in ("rtx4090", "rtx5090"))


@pytest.mark.parametrize("file", list(TABLES))
def test_documents_show_what_the_code_says(file):
    """Every table in the documents is the one that the code makes; a document without a table's place is refused."""
    text = (DOCS / file).read_text()
    assert with_tables(text, TABLES[file]) == text
    with pytest.raises(UserError, match="must have a place for its table"):
        with_tables("", TABLES[file])
