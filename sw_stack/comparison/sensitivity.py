"""How much each assumed input matters: one at a time to the ends of its band, everything simulated again.

Three quantities: speed and energy of the proposed machine against the xPU, and speed against the PIM machine, each
machine with its best legal method at every point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sw_stack.comparison.cell import CellKey, CellResult
from sw_stack.comparison.evaluate import Settings
from sw_stack.comparison.heat import evaluate_settled
from sw_stack.comparison.workers import Workers
from sw_stack.machines.catalogue import machines
from sw_stack.machines.energy_entries import ENTRIES
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import Sourced

PROPOSED, REFERENCE, PIM = "elmoe3d-8gb", "xpu", "xpu-pim"
METHODS = {PROPOSED: ("none", "elastic"), REFERENCE: ("none",), PIM: ("none",)}
ROW_BYTES = (2048, 65536)
LOCALITY = (0.5, 1.5)


@dataclass(frozen=True)
class Change:
    """One input at one end: what it does to machines, settings and prices."""

    machine: Callable[[Machine], Machine] = lambda machine: machine
    settings: Callable[[Settings], Settings] = lambda settings: settings
    prices: dict[str, Sourced] | None = None


@dataclass(frozen=True)
class Input:
    """An assumed input, its ends as printed, and the changes to them."""

    name: str
    low: str
    high: str
    at_low: Change
    at_high: Change


def _at(number: Sourced, corner: str) -> Sourced:
    return number.with_value(number.at(corner), f"{corner} end of its band")


def _price(entry: str) -> Input:
    number = ENTRIES[entry][1]
    low, high = (Change(prices={entry: _at(number, corner)}) for corner in ("low", "high"))
    return Input(f"energy of {entry.replace('_', ' ')}", *(f"{x:g} {number.unit}" for x in number.band), low, high)


def _row(machine: Machine, size: int) -> Machine:
    from cycle_model.hb.stream import with_row_bytes

    return replace(machine, chip=replace(machine.chip, hb=with_row_bytes(machine.chip.hb, size)))


def _part(part: str, field: str, label: str) -> Input:
    """A number of a part of the machine (links, host, static) to its ends."""

    def changed(machine: Machine, corner: str) -> Machine:
        whole = getattr(machine, part)
        if whole is None:
            return machine
        return replace(machine, **{part: replace(whole, **{field: _at(getattr(whole, field), corner)})})

    number = getattr(getattr(machines()[PROPOSED], part), field)
    low, high = (Change(machine=lambda m, c=corner: changed(m, c)) for corner in ("low", "high"))
    return Input(label, *(f"{x:g} {number.unit}" for x in number.band), low, high)


def _pim_ranks() -> Input:
    number = machines()[PIM].near_memory.ranks

    def changed(machine: Machine, corner: str) -> Machine:
        if machine.near_memory is None:
            return machine
        return replace(machine, near_memory=replace(machine.near_memory, ranks=_at(number, corner)))

    low, high = (Change(machine=lambda m, c=corner: changed(m, c)) for corner in ("low", "high"))
    return Input("ranks of PIM at work", *(f"{x:g}" for x in number.band), low, high)


def _pim_power() -> Input:
    number = machines()[PIM].near_memory.power_limit_w

    def changed(machine: Machine, corner: str) -> Machine:
        if machine.near_memory is None:
            return machine
        return replace(machine, near_memory=replace(machine.near_memory, power_limit_w=_at(number, corner)))

    low, high = (Change(machine=lambda m, c=corner: changed(m, c)) for corner in ("low", "high"))
    return Input("power limit of PIM", *(f"{x:g} W" for x in number.band), low, high)


def inputs() -> tuple[Input, ...]:
    """Every assumed input that the comparison rests on."""
    corner = {c: Change(settings=lambda s, c=c: replace(s, corner=c)) for c in ("low", "high")}
    local = [Change(settings=lambda s, x=x: replace(s, locality=x)) for x in LOCALITY]
    rows = [Change(machine=lambda m, x=x: _row(m, x) if m.has_hb else m) for x in ROW_BYTES]
    return (
        Input("acceptance", "low end of the fit", "high end", corner["low"], corner["high"]),
        Input("locality of routing", *(f"{x:g} x fitted" for x in LOCALITY), *local),
        Input("HB row", *(f"{x // 1024} KB" for x in ROW_BYTES), *rows),
        _part("host", "command_ns", "host, per command"),
        _part("host", "attention_macs_per_ns", "host, attention"),
        _part("host", "elements_per_ns", "host, elements"),
        _part("links", "hop_ns", "link hop"),
        _pim_ranks(),
        _pim_power(),
        _price("hb_read"),
        _price("lpddr_read"),
        _price("slice_mac_full"),
        _price("sram_read"),
        _part("static", "logic_w", "static power, logic"),
        _part("static", "lpddr_w", "static power, LPDDR"),
    )


QUANTITIES: dict[str, tuple[str, Callable[[dict[str, CellResult]], float]]] = {
    "speed": (
        f"speed of {PROPOSED} against {REFERENCE}",
        lambda c: c[REFERENCE].seconds_per_token / c[PROPOSED].seconds_per_token,
    ),
    "energy": (f"energy of {PROPOSED} against {REFERENCE}", lambda c: c[REFERENCE].energy() / c[PROPOSED].energy()),
    "pim": (
        f"speed of {PROPOSED} against {PIM}",
        lambda c: c[PIM].seconds_per_token / c[PROPOSED].seconds_per_token,
    ),
}


Progress = Callable[[str, int, int], None]


def _silent(what: str, done: int, of: int) -> None:
    """No progress."""


def sensitivity(
    model: str,
    dataset: str,
    batch: int,
    settings: Settings,
    workers: Workers | None = None,
    progress: Progress = _silent,
) -> dict:
    """The document that `sw_stack.reports.figures.sensitivity` draws."""
    chosen = inputs()
    changes = [Change(), *(change for item in chosen for change in (item.at_low, item.at_high))]
    names = [f"{item.name}, {end}" for item in chosen for end in (item.low, item.high)]
    made = machines()
    keys = [CellKey(model, dataset, batch, name, method) for name, methods in METHODS.items() for method in methods]
    # What a change leaves alone is simulated once: cells are told apart by everything that they are evaluated from.
    work = [
        [(key, change.machine(made[key.machine]), change.settings(settings), change.prices) for key in keys]
        for change in changes
    ]
    labels = [[repr(arguments) for arguments in row] for row in work]
    distinct: dict[str, tuple] = {}
    named: dict[str, str] = {}
    for row, texts, name in zip(work, labels, ["as assumed", *names], strict=True):
        for arguments, text in zip(row, texts, strict=True):
            distinct.setdefault(text, arguments)
            named.setdefault(text, name)
    order, found = list(distinct), {}
    for i, cell in (workers or Workers()).each(evaluate_settled, list(distinct.values())):
        found[order[i]] = cell
        progress(named[order[i]], len(found), len(order))

    def fastest(texts: list[str]) -> dict[str, CellResult]:
        cells = [found[text] for text in texts]
        return {
            name: min((c for c in cells if c.key.machine == name), key=lambda c: c.seconds_per_token)
            for name in METHODS
        }

    base, *ends = map(fastest, labels)
    pairs = list(zip(chosen, ends[::2], ends[1::2], strict=True))
    return {
        name: {
            "title": f"{title}, {model}, {dataset}, batch {batch}",
            "base": value(base),
            "inputs": [
                {"input": item.name, "low": item.low, "high": item.high, "at_low": value(low), "at_high": value(high)}
                for item, low, high in pairs
                if abs(value(low) / value(base) - 1) > 1e-4 or abs(value(high) / value(base) - 1) > 1e-4
            ],
        }
        for name, (title, value) in QUANTITIES.items()
    }


def crossover(
    model: str,
    dataset: str,
    machine: str,
    settings: Settings,
    batches: tuple[int, ...] = (1, 2, 4, 8, 16),
    acceptances: tuple[float, ...] = (0.3, 0.45, 0.6, 0.75, 0.9),
    workers: Workers | None = None,
    progress: Progress = _silent,
) -> dict:
    """When speculation pays: time of plain decoding over that of Elastic-SD, by batch and acceptance per token."""
    made = machines()[machine]
    points = [(batch, a) for batch in batches for a in (None, *acceptances)]  # None: plain decoding
    work = [
        (
            CellKey(model, dataset, batch, machine, "none" if a is None else "elastic"),
            made,
            replace(settings, acceptance=a),
        )
        for batch, a in points
    ]
    seconds: dict[tuple, float] = {}
    for i, cell in (workers or Workers()).each(evaluate_settled, work):
        seconds[points[i]] = cell.seconds_per_token
        batch, a = points[i]
        progress(f"batch {batch}, {'plain' if a is None else f'acceptance {a:g}'}", len(seconds), len(points))
    return {
        "title": f"{model} on {machine}, tree {settings.tree}",
        "batches": list(batches),
        "acceptances": list(acceptances),
        "gain": [[seconds[batch, None] / seconds[batch, a] for a in acceptances] for batch in batches],
    }
