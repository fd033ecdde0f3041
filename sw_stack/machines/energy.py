"""Energy = action counts x table, by component, with its band; static energy apart; what it rests on listed.

A field of `Counts` that is neither priced nor said to be included elsewhere raises: nothing silently costs zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from cycle_model.counts import Counts
from hw.errors import UserError, nearest
from sw_stack.machines.energy_entries import ACTIONS, COMPONENTS, ENTRIES, INCLUDED, OF_THE_MACHINE
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import CORNERS, Sourced

BITS_PER_BYTE = 8


@dataclass(frozen=True)
class Band:
    """Energy in joules at the three corners of its table."""

    low: float = 0.0
    nominal: float = 0.0
    high: float = 0.0

    def __add__(self, other: Band) -> Band:
        return Band(self.low + other.low, self.nominal + other.nominal, self.high + other.high)

    def __truediv__(self, by: float) -> Band:
        return Band(self.low / by, self.nominal / by, self.high / by)


@dataclass(frozen=True)
class Energy:
    """Energy of a run.

    components  dynamic, by component, every one of `COMPONENTS`
    static      static power times the run's seconds
    assumed     names of the assumed numbers that contributed, largest nominal share first
    """

    components: dict[str, Band]
    static: Band
    assumed: tuple[str, ...]

    @property
    def dynamic(self) -> Band:
        """Without static energy: the figure that rests on actions only."""
        return sum(self.components.values(), Band())

    @property
    def total(self) -> Band:
        """Dynamic and static."""
        return self.dynamic + self.static


@dataclass(frozen=True)
class EnergyTable:
    """Prices of one machine.

    prices    field of `Counts` -> (entry, component, number)
    static    static power by component
    unpriced  fields of actions that this machine cannot do
    """

    prices: dict[str, tuple[str, str, Sourced]]
    static: dict[str, Sourced]
    unpriced: tuple[str, ...]

    def energy(self, counts: Counts, seconds: float) -> Energy:
        """Energy of ``counts`` in a run of ``seconds``; UserError where an action that happened has no price."""
        for field in self.unpriced:
            if getattr(counts, field):
                raise UserError(f"energy of the action {field} must be known; this machine has no price for it")
        if not seconds >= 0:
            raise UserError(f"duration of a run must be at least 0 s, not {seconds!r}")
        components = dict.fromkeys(COMPONENTS, Band())
        assumed: dict[str, float] = {}
        for field, (entry, component, price) in self.prices.items():
            count = getattr(counts, field)
            if count:
                band = Band(*(1e-12 * count * pj_each(field, price, corner) for corner in CORNERS))
                components[component] += band
                if price.assumed:
                    assumed[entry] = assumed.get(entry, 0.0) + band.nominal
        static = Band()
        for name, watts in self.static.items():
            band = Band(*(seconds * watts.at(corner) for corner in CORNERS))
            static += band
            if watts.assumed and band.high:
                assumed[f"static {name}"] = band.nominal
        return Energy(components, static, tuple(sorted(assumed, key=lambda name: (-assumed[name], name))))


def pj_each(field: str, price: Sourced, corner: str = "nominal") -> float:
    """Picojoules of one count of ``field``; UserError where the price's unit does not fit the field."""
    of_bytes = field.endswith("_bytes")
    units = {"pJ/bit": BITS_PER_BYTE, "pJ/B": 1} if of_bytes else {"pJ": 1, "pJ/MAC": 1}
    if price.unit not in units:
        raise UserError(f"energy of {field} must be in {' or '.join(units)}, not {price.unit!r}")
    return units[price.unit] * price.at(corner)


def energy_table(machine: Machine, changes: Mapping[str, Sourced] | None = None) -> EnergyTable:
    """The prices of a processor: `ENTRIES`, the machine's own over them, ``changes`` over both.

    Raises UserError for an unknown entry, for a GPU (whose energy is board power times time, see `gpu`), and for a
    field of `Counts` that nobody priced.
    """
    if machine.is_gpu:
        raise UserError(f"machine {machine.name} is a GPU: its energy is not made of action counts")
    own: dict[str, Sourced] = dict(machine.energy)
    if machine.near_memory is not None:
        own = {
            "near_memory_read": machine.near_memory.read_pj_per_bit,
            "near_memory_mac": machine.near_memory.mac_pj,
        } | own
    own |= changes or {}
    for name in own:
        if name not in ENTRIES and name not in OF_THE_MACHINE:
            raise UserError(f"unknown energy entry {name!r}; {nearest(name, [*ENTRIES, *OF_THE_MACHINE])}")
    actions = dict(ACTIONS)
    if machine.chip.hb.ecc == "sideband":
        actions["hb_check_bytes"] = "hb_read"
    included = set(INCLUDED) | {"hb_check_bytes"}
    prices, unpriced = {}, []
    for field in fields(Counts):
        if field.name in actions:
            entry = actions[field.name]
            component, number = ENTRIES[entry] if entry in ENTRIES else (OF_THE_MACHINE[entry], None)
            number = own.get(entry, number)
            if number is None:
                unpriced.append(field.name)
            else:
                pj_each(field.name, number)
                prices[field.name] = (entry, component, number)
        elif field.name not in included:
            raise UserError(f"energy of the action {field.name} must be known; neither priced nor included elsewhere")
    return EnergyTable(prices, machine.static.parts, tuple(unpriced))
