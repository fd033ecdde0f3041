"""What changed between two results: cells of the same key, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError
from sw_stack.comparison.cell import CellResult, Results


@dataclass(frozen=True)
class Difference:
    """Cells in both results, and keys in one of them only."""

    pairs: tuple[tuple[CellResult, CellResult], ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def changed(self) -> tuple[tuple[CellResult, CellResult], ...]:
        """Pairs that are not equal, the largest change of speed first."""
        pairs = [pair for pair in self.pairs if repr(pair[0]) != repr(pair[1])]  # repr: NaN equals itself
        return tuple(sorted(pairs, key=lambda pair: -abs(1 - speed_ratio(*pair))))


def speed_ratio(first: CellResult, second: CellResult) -> float:
    """How many times faster the second is; infinite where only one of them fits."""
    if first.fits != second.fits:
        return float("inf")
    return first.seconds_per_token / second.seconds_per_token if first.fits else 1.0


def difference(first: Results, second: Results) -> Difference:
    """Pair the cells of equal keys; where both have one machine each, whatever their names, machines do not count.

    UserError where there is no cell in both.
    """
    alone = all(len({cell.key.machine for cell in results.cells}) == 1 for results in (first, second))

    def by_key(results: Results) -> dict[tuple, CellResult]:
        return {
            (*cell.key.workload, "" if alone else cell.key.machine, cell.key.method): cell for cell in results.cells
        }

    left, right = by_key(first), by_key(second)
    common = [key for key in left if key in right]
    if not common:
        raise UserError("the two results must have at least one cell in common; they have none")
    return Difference(
        tuple((left[key], right[key]) for key in common),
        tuple(cell.key.label for key, cell in left.items() if key not in right),
        tuple(cell.key.label for key, cell in right.items() if key not in left),
    )
