"""Speed and energy against a reference machine, per workload and as means over workloads.

Every machine enters a workload (model, dataset, batch) with its best legal method. Ratios are above 1 where the machine
is better than the reference. Means are given as arithmetic and as geometric ones, of all cells and of those whose
inputs were measured or published for that very model and dataset.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sw_stack.comparison.cell import CellResult

Measure = Callable[[CellResult], float]


def seconds(cell: CellResult) -> float:
    """Seconds per token: smaller is better."""
    return cell.seconds_per_token


def picojoules(cell: CellResult) -> float:
    """Nominal energy per token, static included."""
    return cell.energy()


def dynamic_picojoules(cell: CellResult) -> float:
    """Nominal energy per token without static power."""
    return cell.energy(dynamic=True)


MEASURES: dict[str, Measure] = {
    "speed": seconds,
    "energy": picojoules,
    "dynamic energy": dynamic_picojoules,
}


def best_methods(cells: Iterable[CellResult]) -> dict[tuple, dict[str, CellResult]]:
    """workload -> machine -> the cell of its fastest method; machines that the model does not fit are absent."""
    best: dict[tuple, dict[str, CellResult]] = defaultdict(dict)
    for cell in cells:
        if not cell.fits:
            continue
        known = best[cell.key.workload].get(cell.key.machine)
        if known is None or cell.seconds_per_token < known.seconds_per_token:
            best[cell.key.workload][cell.key.machine] = cell
    return dict(best)


@dataclass(frozen=True)
class Ratio:
    """One machine against the reference in one workload."""

    workload: tuple[str, str, int]
    machine: str
    value: float
    assumed: bool


def ratios(cells: Iterable[CellResult], reference: str, measure: Measure) -> list[Ratio]:
    """Reference over machine, for every workload in which both have a cell that fits."""
    return [
        Ratio(
            workload,
            machine,
            measure(machines[reference]) / measure(cell),
            bool(cell.assumed or machines[reference].assumed),
        )
        for workload, machines in best_methods(cells).items()
        if reference in machines
        for machine, cell in machines.items()
    ]


def against_best_other(
    cells: Iterable[CellResult], machine: str, rivals: Iterable[str], measure: Measure
) -> list[Ratio]:
    """``machine`` against whichever of ``rivals`` is best by ``measure`` in each workload."""
    rivals = set(rivals) - {machine}
    found = []
    for workload, machines in best_methods(cells).items():
        others = [cell for name, cell in machines.items() if name in rivals]
        if machine not in machines or not others:
            continue
        best = min(others, key=measure)
        own = machines[machine]
        found.append(Ratio(workload, machine, measure(best) / measure(own), bool(own.assumed or best.assumed)))
    return found


@dataclass(frozen=True)
class Mean:
    """Means of ratios; ``workloads`` of them went in."""

    arithmetic: float
    geometric: float
    workloads: int


def mean(values: Iterable[float]) -> Mean | None:
    """Both means of positive ratios; None of none."""
    array = np.array(list(values), np.float64)
    if not array.size:
        return None
    return Mean(float(array.mean()), float(np.exp(np.log(array).mean())), array.size)


@dataclass(frozen=True)
class MachineMeans:
    """Means of one machine: over all cells, and with only those that rest on no assumed input."""

    machine: str
    all: Mean
    without_assumed: Mean | None


def means(cells: Iterable[CellResult], compare: Callable[[list[CellResult]], list[Ratio]]) -> list[MachineMeans]:
    """Per machine, in the order of first appearance; ``compare`` makes ratios of cells.

    Without assumed inputs the comparison is made anew of the cells that are left: a machine whose fastest method rests
    on an assumed acceptance enters that workload with the fastest one that does not.
    """
    cells = list(cells)
    everything, sound = (_by_machine(compare(chosen)) for chosen in (cells, [c for c in cells if not c.assumed]))
    return [MachineMeans(machine, mean(values), mean(sound.get(machine, ()))) for machine, values in everything.items()]


def _by_machine(found: Iterable[Ratio]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for ratio in found:
        values[ratio.machine].append(ratio.value)
    return dict(values)
