"""``--machine my.toml``: a preset with some fields replaced.

    inherits = "elmoe3d-8gb"      # a preset of `catalogue`
    note = "half the external memory, a slower HB"
    methods = ["none", "elastic"] # top level: name, note, methods, mappings, precision (GPU)

    [chip]                        # pes
    pes = 16
    [array]                       # fields of hw.params.ArrayParams
    dots_per_fp32 = 1
    [pe]                          # fields of hw.params.PeParams
    fetch = 12
    [hb]                          # fields of hw.params.HbParams, and two in other words:
    part = "hb500"
    bandwidth = "64 GB/s"         #   of one bank, sets its data pins (32 for each column of the array)
    row_bytes = "16 KiB"          #   of a row, at the same capacity
    [lpddr]
    bandwidth = "51.2 GB/s"       # of all channels, sets their number
    [lpddr.timing]                # fields of hw.lpddr5_timing / lpddr5_config, also .organization, .controller
    tRCD_ns = "20 ns"
    [links]                       # and [near_memory] [host] [static] [gpu]: fields of `machine`, in their own unit
    stream_gb_per_s = "64 GB/s"   #   or in another of the same kind
    [energy]                      # entries of `energy_entries.ENTRIES`
    hb_read = "0.66 pJ/bit"

Every mistake is one line with file, line and key, and the nearest valid names. A replaced number is the user's: kind
``assumed``, its band gone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cycle_model.hb.stream import with_row_bytes
from hw.errors import UserError, nearest
from sw_stack.machines.catalogue import machine, machines
from sw_stack.machines.energy_entries import ENTRIES, OF_THE_MACHINE
from sw_stack.machines.machine import Machine
from sw_stack.machines.sourced import Sourced
from sw_stack.machines.units import convert

TEXTS = ("inherits", "name", "note", "precision")
LISTS = ("methods", "mappings")
SOURCED_PARTS = ("near_memory", "links", "host", "static", "gpu")
CHIP_PARTS = ("chip", "array", "pe", "hb")
PLAIN_PARTS = (*CHIP_PARTS, "lpddr")
LPDDR_PARTS = ("organization", "timing", "controller")
TABLES = (*PLAIN_PARTS, *SOURCED_PARTS, "energy")
UNITS_OF_SUFFIX = {"_ns": "ns", "_bytes": "B", "_ghz": "GHz", "_c": "C"}
"""Unit of a plain field, by the end of its name."""


def load_machine(name: str) -> Machine:
    """A preset by name, or the machine of a TOML file where ``name`` ends in .toml."""
    if not name.endswith(".toml"):
        return machine(name)
    path = Path(name)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"machine file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from error
    return _File(path, text, tables).machine()


class _File:
    """One file being read; knows where its keys stand."""

    def __init__(self, path: Path, text: str, tables: dict[str, Any]) -> None:
        self.path, self.lines, self.tables = path, text.splitlines(), tables

    def machine(self) -> Machine:
        t = self.tables
        for key in t:
            if key not in (*TEXTS, *LISTS, *TABLES):
                raise self.fail((), key, f"unknown key {key!r}; {nearest(key, [*TEXTS, *LISTS, *TABLES])}")
        for key in TEXTS:
            if key in t and not (isinstance(t[key], str) and t[key]):
                raise self.fail((), key, f"{key} must be a text, not {t[key]!r}")
        if "inherits" not in t:
            raise UserError(f"{self.path}: inherits must name a preset: {', '.join(machines())}")
        base = self.guarded((), "inherits", lambda: machine(t["inherits"]))
        changes: dict[str, Any] = {
            "name": t.get("name", self.path.stem),
            "note": t.get("note", f"{base.name} with changes of {self.path.name}"),
            "definition": f"assumed: {self.path.name}, a user's, over {base.name}",
        }
        if "precision" in t:
            changes["precision"] = t["precision"]
        for key in LISTS:
            if key in t:
                if not (isinstance(t[key], list) and all(isinstance(each, str) for each in t[key])):
                    raise self.fail((), key, f"{key} must be a list of names, not {t[key]!r}")
                changes[key] = tuple(t[key])
        for name in TABLES:
            if name in t and not isinstance(t[name], dict):
                raise self.fail((), name, f"{name} must be a table, not {t[name]!r}")
        for name in SOURCED_PARTS:
            if name in t:
                changes[name] = self.sourced(base, name)
        if any(name in t for name in CHIP_PARTS):
            changes["chip"] = self.chip(base)
        if "lpddr" in t:
            changes["lpddr"] = self.lpddr(base)
        if "energy" in t:
            changes["energy"] = self.energy(base)
        try:
            return replace(base, **changes)
        except UserError as error:
            raise UserError(f"{self.path}: {error}") from error

    def sourced(self, base: Machine, name: str) -> Any:
        part = getattr(base, name)
        if part is None:
            raise self.fail((name,), None, f"{base.name} has no {name}; inherit a machine that has")
        known = {f.name: getattr(part, f.name) for f in fields(part)}
        numbers = {key: value for key, value in known.items() if isinstance(value, Sourced)}
        plain = {key: value for key, value in known.items() if isinstance(value, int)}  # flags and counts
        changes = {}
        for key, given in self.tables[name].items():
            if key in numbers:
                changes[key] = self.number((name,), key, given, numbers[key])
            elif key in plain:
                if type(given) is not type(plain[key]):
                    raise self.fail((name,), key, f"{key} must be like {plain[key]!r}, not {given!r}")
                changes[key] = given
            else:
                raise self.fail((name,), key, f"unknown key {key!r} in [{name}]; {nearest(key, [*numbers, *plain])}")
        return self.guarded((name,), None, lambda: replace(part, **changes))

    def number(self, table: tuple[str, ...], key: str, given: object, old: Sourced) -> Sourced:
        try:
            return old.with_value(convert(given, old.unit), f"{self.path.name}, a user's")
        except UserError as error:
            raise self.fail(table, key, f"{key} {error}") from error

    def energy(self, base: Machine) -> tuple[tuple[str, Sourced], ...]:
        changed = dict(base.energy)
        for key, given in self.tables["energy"].items():
            if key not in ENTRIES:
                hint = f"; set it in [near_memory] of {base.name}" if key in OF_THE_MACHINE else ""
                raise self.fail(
                    ("energy",), key, f"unknown key {key!r} in [energy]; {nearest(key, list(ENTRIES))}{hint}"
                )
            changed[key] = self.number(("energy",), key, given, ENTRIES[key][1])
        return tuple(changed.items())

    def chip(self, base: Machine) -> Any:
        if base.chip is None:
            raise self.fail(next((n,) for n in CHIP_PARTS if n in self.tables), None, f"{base.name} is a GPU")
        array = self.plain(("array",), base.chip.array, self.tables.get("array", {}))
        pe = self.plain(("pe",), base.chip.pe, self.tables.get("pe", {}))
        given = dict(self.tables.get("hb", {}))
        bandwidth, row = given.pop("bandwidth", None), given.pop("row_bytes", None)
        hb = self.plain(("hb",), base.chip.hb, given, also=("bandwidth", "row_bytes"))
        if bandwidth is not None:
            pins = self.converted(("hb",), "bandwidth", bandwidth, "GB/s") * 8 * hb.timing.tCK_ns * hb.clocks.nBL
            bits = round(pins)
            if abs(pins - bits) > 1e-6:
                raise self.fail(("hb",), "bandwidth", f"bandwidth must be whole pins at {hb.part}, not {bandwidth!r}")
            hb = self.guarded(("hb",), "bandwidth", lambda: replace(hb, data_bits=bits))
        if row is not None:
            size = self.converted(("hb",), "row_bytes", row, "B")
            hb = self.guarded(("hb",), "row_bytes", lambda: with_row_bytes(hb, int(size)))
        sizes = dict(self.tables.get("chip", {}))
        for key in sizes:
            if key != "pes":
                raise self.fail(("chip",), key, f"unknown key {key!r} in [chip]; {nearest(key, ['pes'])}")
        changed = next(name for name in reversed(CHIP_PARTS) if name in self.tables)
        return self.guarded((changed,), None, lambda: replace(base.chip, array=array, pe=pe, hb=hb, **sizes))

    def lpddr(self, base: Machine) -> Any:
        if base.lpddr is None:
            raise self.fail(("lpddr",), None, f"{base.name} is a GPU")
        given = dict(self.tables["lpddr"])
        config, bandwidth = base.lpddr, given.pop("bandwidth", None)
        for key, table in given.items():
            if key not in LPDDR_PARTS or not isinstance(table, dict):
                raise self.fail(
                    ("lpddr",), key, f"unknown key {key!r} in [lpddr]; {nearest(key, ['bandwidth', *LPDDR_PARTS])}"
                )
        parts = {key: self.plain(("lpddr", key), getattr(config, key), table) for key, table in given.items()}
        if parts:
            config = self.guarded(("lpddr", next(iter(parts))), None, lambda: replace(config, **parts))
        if bandwidth is not None:
            channels = self.converted(("lpddr",), "bandwidth", bandwidth, "GB/s") / config.timing.peak_gb_per_s
            if channels not in (1, 2, 4, 8, 16, 32, 64):
                rule = f"{config.timing.peak_gb_per_s:g} GB/s per channel times a power of two"
                raise self.fail(("lpddr",), "bandwidth", f"bandwidth must be {rule}, not {bandwidth!r}")
            config = replace(config, organization=replace(config.organization, channels=int(channels)))
        return config

    def plain(self, table: tuple[str, ...], part: Any, given: dict[str, object], also: tuple[str, ...] = ()) -> Any:
        """A dataclass of plain numbers with some replaced; the end of a field's name says its unit."""
        known = [f.name for f in fields(part)]
        for key, value in given.items():
            name = ".".join(table)
            if key not in known:
                raise self.fail(table, key, f"unknown key {key!r} in [{name}]; {nearest(key, [*known, *also])}")
            unit = next((u for suffix, u in UNITS_OF_SUFFIX.items() if key.endswith(suffix)), None)
            if unit is not None:
                number = self.converted(table, key, value, unit)
                value = int(number) if isinstance(getattr(part, key), int) and number == int(number) else number
            part = self.guarded(table, key, lambda p=part, k=key, v=value: replace(p, **{k: v}))
        return part

    # --- messages ------------------------------------------------------------------------------------------

    def converted(self, table: tuple[str, ...], key: str, given: object, unit: str) -> float:
        try:
            return convert(given, unit)
        except UserError as error:
            raise self.fail(table, key, f"{key} {error}") from error

    def guarded(self, table: tuple[str, ...], key: str | None, make: Callable[[], Any]) -> Any:
        """What ``make`` returns; its UserError or TypeError with file, line and key in front."""
        try:
            return make()
        except (UserError, TypeError) as error:
            raise self.fail(table, key, str(error)) from error

    def fail(self, table: tuple[str, ...], key: str | None, message: str) -> UserError:
        line = self.line(table, key)
        return UserError(f"{self.path}{f':{line}' if line else ''}: {message}")

    def line(self, table: tuple[str, ...], key: str | None) -> int | None:
        """Line of a key of a table, or of the table's header; None where it is written in another form."""
        name, header, inside = ".".join(table), None, not table
        for number, text in enumerate(self.lines, 1):
            found = re.match(r"\s*\[+\s*([^\]]*?)\s*\]+", text)
            if found:
                inside = found[1] == name or (key is not None and found[1] == ".".join((*table, key)))
                header = number if inside and header is None else header
                if inside and found[1] != name:
                    return number
            elif inside and key is not None and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", text):
                return number
        return header
