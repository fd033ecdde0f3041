"""How every figure looks: colours that colour-blindness keeps apart, markers beside them, hatching for guesses."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette; the proposed machine is vermilion everywhere.
_MACHINES = {
    "elmoe3d-8gb": ("#D55E00", "o", "-"),
    "elmoe3d-4gb": ("#D55E00", "s", "--"),
    "hb-xpu-8gb": ("#0072B2", "^", "-"),
    "hb-xpu-4gb": ("#0072B2", "v", "--"),
    "xpu": ("#000000", "x", "-"),
    "xpu-pim": ("#009E73", "D", "-"),
    "xpu-logicpim": ("#CC79A7", "P", "-"),
    "xpu-nmp": ("#E69F00", "<", "-"),
}
_OTHERS = tuple((("#56B4E9", "#999999", "#8B6508")[i % 3], "*hpX8"[i % 5], ":") for i in range(15))
PARTS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#999999", "#F0E442", "#000000", "#882255")
"""Parts of a stacked bar, in the order in which they are stacked."""
HATCH_ASSUMED = "///"


def machine_style(name: str, names: list[str]) -> dict:
    """Line style of a machine; machines without a colour of their own share the others, told apart by markers."""
    if name in _MACHINES:
        color, marker, line = _MACHINES[name]
    else:
        rest = [n for n in names if n not in _MACHINES]
        color, marker, line = _OTHERS[rest.index(name) % len(_OTHERS)]
    return {"color": color, "marker": marker, "linestyle": line, "markersize": 5, "linewidth": 1.4, "label": name}


def tidy(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, labels with units, light grid."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)


def render(figure: Figure, kind: str) -> bytes:
    """PNG, SVG or PDF bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with matplotlib.rc_context({"svg.hashsalt": "elmoe3d", "svg.fonttype": "path"}):
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=130)
    return buffer.getvalue()
