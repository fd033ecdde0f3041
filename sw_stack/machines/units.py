"""Numbers with units, "51.2 GB/s", into the unit that a field has."""

from __future__ import annotations

import re

from hw.errors import UserError

_SI = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGT", 1)}
UNITS: dict[str, tuple[str, float]] = (
    {f"{p}B": ("bytes", f) for p, f in (_SI | _BINARY).items()}
    | {f"{p}B/s": ("bytes per second", f) for p, f in (_SI | _BINARY).items()}
    | {"s": ("time", 1.0), "ms": ("time", 1e-3), "us": ("time", 1e-6), "ns": ("time", 1e-9), "ps": ("time", 1e-12)}
    | {"W": ("power", 1.0), "mW": ("power", 1e-3), "kW": ("power", 1e3)}
    | {"GHz": ("frequency", 1e9), "MHz": ("frequency", 1e6)}
    | {"GOPS": ("operations", 1e9), "TOPS": ("operations", 1e12), "POPS": ("operations", 1e15)}
    | {"pJ": ("energy", 1e-12), "fJ": ("energy", 1e-15), "nJ": ("energy", 1e-9)}
    | {"pJ/bit": ("energy per bit", 1e-12), "fJ/bit": ("energy per bit", 1e-15), "pJ/B": ("energy per bit", 0.125e-12)}
    | {"pJ/MAC": ("energy per MAC", 1e-12), "fJ/MAC": ("energy per MAC", 1e-15)}
    | {"C": ("temperature", 1.0), "K/W": ("thermal resistance", 1.0), "um2": ("area", 1e-12), "mm2": ("area", 1e-6)}
)
"""Unit -> (dimension, factor). K M G T are powers of 1000, Ki Mi Gi Ti of 1024. A unit that is not here (ranks, tokens,
MAC/ns) has no other way to be written."""


def convert(given: object, unit: str) -> float:
    """``given`` in ``unit``: a number as it is, a text "NUMBER UNIT" converted; "%" for a share ("of peak").

    Raises UserError, to be completed by the caller with the name of the key.
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    found = re.fullmatch(r"\s*([-+]?[0-9][0-9_]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)\s*(\S.*?)?\s*", str(given))
    if not isinstance(given, str) or not found:
        raise UserError(f"must be a number with the unit {unit!r}, not {given!r}")
    number, has = float(found[1]), found[2]
    if has is None or has == unit:
        return number
    if has == "%" and unit.startswith("of "):
        return number / 100
    dimension, factor = UNITS.get(unit, (None, 1.0))
    other, other_factor = UNITS.get(has, (None, 1.0))
    if dimension is None or other != dimension:
        raise UserError(f"must be in {unit}, not {given!r}")
    return number * other_factor / factor
