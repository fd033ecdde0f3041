"""Energy, area and thermal bound against values worked by hand."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from cycle_model.counts import Counts
from hw.errors import UserError
from hw.params import chip
from sw_stack.machines import energy as energy_module
from sw_stack.machines.area import die_area
from sw_stack.machines.catalogue import machine, machines
from sw_stack.machines.energy import Band, energy_table
from sw_stack.machines.energy_entries import ACTIONS, COMPONENTS, ENTRIES, INCLUDED, OF_THE_MACHINE
from sw_stack.machines.sourced import Sourced
from sw_stack.machines.thermal import Thermal, refresh_class_c, settle, stack_watts


def close(band: Band, low: float, nominal: float, high: float) -> None:
    assert (band.low, band.nominal, band.high) == pytest.approx((low, nominal, high), rel=1e-12)


def test_hand_counted_projection():
    """One 32 x 32 tile for 16 tokens, both slices, by hand: 512 + 64 B from HB, 512 B from LPDDR, 32,768 slice MACs."""
    counts = Counts(
        hb_read_bytes=576,
        lpddr_read_bytes=512,
        array_macs_full=2 * 16 * 32 * 32,
        array_scale_products=2 * 16 * 32,
        array_chain_adds=2 * 16 * 32 + 16 * 32,
        stream_link_delivered_bytes=512,
    )
    energy = energy_table(machine("elmoe3d-4gb")).energy(counts, 2e-6)
    close(energy.components["HB"], 576 * 8 * 0.43e-12, 576 * 8 * 0.43e-12, 576 * 8 * 0.88e-12)
    close(energy.components["LPDDR"], 512 * 8 * 3.88e-12, 512 * 8 * 3.88e-12, 512 * 8 * 12e-12)
    close(energy.components["slice MACs"], 32768 * 0.05e-12, 32768 * 0.12e-12, 32768 * 0.27e-12)
    fp32 = (1024 * 1.31 + 1536 * 0.6) * 1e-12
    assert energy.components["FP32 units"].nominal == pytest.approx(fp32, rel=1e-12)
    assert energy.components["links"].nominal == pytest.approx(512 * 8 * 0.3e-12, rel=1e-12)
    assert energy.components["SRAM"] == Band()
    # 16 PEs: 0.5 W of logic, 4 GiB HB: 0.4 W, LPDDR 0.5 W
    assert energy.static.nominal == pytest.approx(1.4 * 2e-6, rel=1e-12)
    assert energy.total.nominal == pytest.approx(energy.dynamic.nominal + energy.static.nominal)
    assert energy.dynamic.nominal == pytest.approx(sum(c.nominal for c in energy.components.values()))
    assert energy.assumed == ("static LPDDR", "static logic", "static HB", "stream_link", "chain_add")  # largest first


def test_arithmetic_equals_the_hb_read_at_sixteen_tokens():
    """4.5 bits at 0.43 pJ are 1.935 pJ per weight, 16.1 slice MACs of 0.12 pJ: arithmetic is no rounding error."""
    table = energy_table(machine("elmoe3d-4gb"))
    read = table.energy(Counts(hb_read_bytes=4500), 0).dynamic.nominal  # 8,000 weights
    mac = table.energy(Counts(array_macs_full=8000), 0).dynamic.nominal
    assert read / mac == pytest.approx(16.125)


def test_every_action_is_priced_or_said_to_be_included():
    """Each field of Counts is in exactly one list, so that a new one cannot cost zero unnoticed."""
    listed = [*ACTIONS, *INCLUDED, "hb_check_bytes"]
    assert sorted(listed) == sorted(field.name for field in fields(Counts))
    assert set(ACTIONS.values()) == {*ENTRIES, *OF_THE_MACHINE}
    assert {component for component, _ in ENTRIES.values()} | set(OF_THE_MACHINE.values()) == set(COMPONENTS)


def test_an_action_without_a_price_is_an_error(monkeypatch):
    """A field that nobody classified is refused by name; so is an action that the machine cannot do."""
    monkeypatch.setattr(energy_module, "INCLUDED", {k: v for k, v in INCLUDED.items() if k != "hb_activates"})
    with pytest.raises(UserError, match="action hb_activates must be known"):
        energy_table(machine("xpu"))
    monkeypatch.undo()
    with pytest.raises(UserError, match="near_memory_macs must be known; this machine has no price"):
        energy_table(machine("xpu")).energy(Counts(near_memory_macs=1), 1.0)
    pim = energy_table(machine("xpu-pim")).energy(Counts(near_memory_macs=1000, near_memory_read_bytes=100), 0)
    assert pim.components["near memory"].nominal == pytest.approx((1000 * 0.46 + 800 * 0.81) * 1e-12)


def test_each_action_moves_its_component_only():
    """One count of each priced action adds its entry's energy, at every corner, to one component."""
    pim = machine("xpu-pim")
    table = energy_table(pim)
    for name, entry in ACTIONS.items():
        component, price = ENTRIES.get(entry) or (
            OF_THE_MACHINE[entry],
            {"near_memory_read": pim.near_memory.read_pj_per_bit, "near_memory_mac": pim.near_memory.mac_pj}[entry],
        )
        factor = 8e-12 if price.unit == "pJ/bit" else 1e-12
        energy = table.energy(Counts(**{name: 1}), 0)
        close(energy.components[component], *(factor * price.at(c) for c in ("low", "nominal", "high")))
        assert energy.dynamic == energy.components[component]


def test_changes_and_units():
    """A changed entry replaces the number; an unknown name or a unit that does not fit is refused."""
    half = Sourced(0.2, "pJ/bit", "assumed", "test")
    changed = energy_table(machine("elmoe3d-8gb"), {"hb_read": half}).energy(Counts(hb_read_bytes=10), 0)
    assert changed.dynamic.nominal == pytest.approx(16e-12)
    assert changed.assumed[0] == "hb_read"
    with pytest.raises(UserError, match="did you mean hb_read"):
        energy_table(machine("elmoe3d-8gb"), {"hb_reed": half})
    with pytest.raises(UserError, match="hb_read_bytes must be in pJ/bit or pJ/B, not 'pJ'"):
        energy_table(machine("elmoe3d-8gb"), {"hb_read": Sourced(1, "pJ", "assumed", "test")})
    with pytest.raises(UserError, match="GPU"):
        energy_table(machine("h100"))
    with pytest.raises(UserError, match="at least 0 s"):
        energy_table(machine("xpu")).energy(Counts(), -1.0)


def test_sideband_check_bits_cost_energy():
    """Side-band ECC moves more bits than the data pins; in-line check columns are counted with the data already."""
    counts = Counts(hb_read_bytes=1024, hb_check_bytes=128)
    base = machine("elmoe3d-4gb")
    cost = {}
    for ecc in ("inline", "sideband"):
        there = replace(base, chip=replace(base.chip, hb=replace(base.chip.hb, ecc=ecc)))
        cost[ecc] = energy_table(there).energy(counts, 0).dynamic.nominal
    assert cost["sideband"] / cost["inline"] == pytest.approx(1152 / 1024)


def test_every_machine_has_a_table():
    """All processors are priced; machines without HB have no static power of it."""
    for one in machines().values():
        if not one.is_gpu:
            assert energy_table(one).static["HB"].value == pytest.approx(one.hb_capacity_bytes / 2**30 / 10)


def test_area_by_hand():
    """32 arrays of 765,905 um2 at 70 % utilisation are 35.0 mm2; the missing parts are named."""
    area = die_area(chip("8gb"))
    assert area.parts["PE arrays"] == pytest.approx(32 * 0.765905 / 0.7)
    assert area.parts["SRAM"] == pytest.approx(32 * 2 * 0.009)
    # 175,925 gates at 765,905 um2 / 13,352,224 gates = 0.05736 um2 each: 10,091 um2 of cells per PE
    assert area.parts["HB controller"] == pytest.approx(32 * 0.010091 / 0.7, rel=1e-3)
    assert area.total_mm2 == pytest.approx(sum(area.parts.values()))
    assert "vector unit" in area.absent
    with pytest.raises(UserError, match="4 x 4 x 8 must be measured first"):
        die_area(chip("tiny"))


def test_temperature_by_hand():
    """45 C and 10 W: 1.27 K/W at a 1 K/W sink gives 57.7 C; halfway to 0.1 K/W (0.55) 0.815 K/W; logic is hotter."""
    assert Thermal().dram_c(10) == pytest.approx(57.7)
    assert Thermal().logic_c(10) == pytest.approx(59.8)
    sink = Sourced(0.55, "K/W", "assumed", "test")
    assert Thermal(sink_k_per_w=sink).dram_c(10) == pytest.approx(53.15)
    assert Thermal(sink_k_per_w=Sourced(4, "K/W", "assumed", "test")).dram_c(10) == pytest.approx(87.7)
    assert [refresh_class_c(t) for t in (20, 85, 85.1, 95, 96, 105, 106, 125)] == [85, 85, 95, 95, 105, 105, 125, 125]
    with pytest.raises(UserError, match="at or below 125 C, not 126 C"):
        refresh_class_c(126)
    with pytest.raises(UserError, match=r"0.1 to 4 K/W, not 9"):
        Thermal(sink_k_per_w=Sourced(9, "K/W", "assumed", "test"))


def test_heat_raises_the_refresh_class_that_timing_feels():
    """30 W at 1 K/W is 83 C: full refresh interval. 40 W is 96 C: a quarter of it. What cools stays."""
    base = machine("elmoe3d-8gb")
    cool, state = settle(base, lambda _: 30.0)
    assert (state.class_c, state.runs, state.dram_c) == (85, 1, pytest.approx(83.1))
    assert cool.chip.hb.timing.tREFI_ns == 7800
    hot, state = settle(base, lambda _: 40.0)
    assert (state.class_c, state.runs) == (105, 2)
    assert hot.chip.hb.timing.tREFI_ns == 7800 / 4
    _, state = settle(base, lambda m: 40.0 if m.chip.hb.temperature_c == 85 else 30.0)
    assert (state.class_c, state.watts) == (105, 30.0)


def test_power_of_the_stack_by_hand():
    """1 J of HB and 3 J of LPDDR in 0.5 s: 2 W of HB heat the stack, with 1 W of logic and 0.8 W of HB at rest."""
    m = machine("elmoe3d-8gb")
    reads = Counts(hb_read_bytes=int(1 / (8 * 0.43e-12)), lpddr_read_bytes=int(3 / (8 * 3.88e-12)))
    assert stack_watts(m, energy_table(m).energy(reads, 0.5), 0.5) == pytest.approx(3.8, rel=1e-6)
