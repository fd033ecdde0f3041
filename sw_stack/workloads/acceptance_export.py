"""``python -m sw_stack.workloads.acceptance_export [STUDY.json]``: what serving needs of a study, as data.

Coefficients of a(coverage, bits, depth) with their resamples; chains of the other methods; the exponent g of tree
width, by least squares over the study's trees of `-ln a(w) = -ln a(1) w^-g` in logarithms.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.elastic.tree import TreeShape
from sw_stack.workloads.acceptance import FILE

FORMAT = "elmoe3d-acceptance"
BASE = {"scheme": "augmented", "fraction": 0.5, "policy": "hot"}
CHAIN = "5"


def export(study: dict) -> dict:
    """The shipped document; UserError where the study has no chain of a method."""
    if study.get("format") != "elmoe3d-study":
        raise UserError("acceptance must be exported from a study.json that elmoe3d study wrote")
    cells = [cell for cell in study["cells"] if all(cell[key] == value for key, value in BASE.items())]
    methods = sorted({cell["method"] for cell in cells})
    by_tree = {m: {c["tree"]: c["acceptance_by_position"] for c in cells if c["method"] == m} for m in methods}
    missing = [method for method in methods if CHAIN not in by_tree[method]]
    if missing:
        raise UserError(f"the study must have a chain of {CHAIN} of {', '.join(missing)}")
    fit = study["fit"]
    return {
        "format": FORMAT,
        "format_version": 1,
        "provenance": study["provenance"],
        "fit": fit | {"resampled_coefficients": np.round(fit["resampled_coefficients"], 5).tolist()},
        "chains": {method: by_tree[method][CHAIN] for method in methods if method not in ("elastic", "quant")},
        "width": {method: [round(g, 4) for g in width_exponents(by_tree[method])] for method in methods},
    }


def width_exponents(trees: dict[str, list[float]]) -> tuple[float, float]:
    """g of the first level and of later ones; 0 where no tree is wider than a chain."""
    chain = -np.log(np.clip(trees[CHAIN], 1e-3, 1 - 1e-3))
    found: tuple[list, list] = ([], [])
    for text, acceptance in trees.items():
        width = TreeShape.parse(text).width
        if width > 1:
            for level, value in enumerate(acceptance[: len(chain)]):
                hazard = -np.log(np.clip(value, 1e-3, 1 - 1e-3))
                found[level > 0].append((np.log(width), np.log(chain[level] / hazard)))
    return tuple(_slope(points) for points in found)


def _slope(points: list[tuple[float, float]]) -> float:
    """Least-squares slope through the origin."""
    if not points:
        return 0.0
    x, y = np.array(points).T
    return float(max(0.0, (x * y).sum() / (x * x).sum()))


def main() -> None:
    """Write the shipped file."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/study/study.json")
    document = export(json.loads(source.read_text()))
    print(write_atomic(FILE, json.dumps(document, indent=None, separators=(",", ":")) + "\n"))


if __name__ == "__main__":
    main()
