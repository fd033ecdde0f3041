"""The JSON beside each exported Verilog file: parameters, latency, ports and the layout of every payload."""

import hashlib
from dataclasses import asdict
from enum import EnumMeta
from importlib.metadata import version

from amaranth.hdl import Shape
from amaranth.lib import data, wiring

from hw.params import ChipParams

GENERATOR = f"elmoe3d {version('elmoe3d')}"
FORMAT_VERSION = 1
STREAM_ROLES = ("payload", "valid", "ready")


def layout(shape: object) -> dict:
    """``shape`` as nested dictionaries.

    ``kind`` is unsigned, signed, enum, struct or array; ``width`` is in bits. A struct's fields have an ``offset``
    from its least significant bit; an array's element i starts at i x the element's width. An enum lists its members.
    """
    if isinstance(shape, data.ArrayLayout):
        width = Shape.cast(shape).width
        return {"kind": "array", "width": width, "length": shape.length, "element": layout(shape.elem_shape)}
    if isinstance(shape, data.Layout):
        fields = [{"name": name, "offset": part.offset, **layout(part.shape)} for name, part in shape]
        return {"kind": "struct", "width": shape.size, "fields": fields}
    cast = Shape.cast(shape)
    if isinstance(shape, EnumMeta):
        return {"kind": "enum", "width": cast.width, "members": {item.name: item.value for item in shape}}
    return {"kind": "signed" if cast.signed else "unsigned", "width": cast.width}


def sidecar(block: str, chip: ChipParams, top: str, component: wiring.Component, verilog: str) -> dict:
    """What a user of ``verilog`` needs to know about it.

    Streams are listed once, by the names of their three ports; every other member is a plain port. Members of no width
    have no port in Verilog and are left out. ``latency_cycles`` is None where the component states none.
    """
    ports, streams = [], {}
    members = {"__".join(map(str, path)): member for path, member, _ in component.signature.flatten(component)}
    for name, member in members.items():
        shape = layout(member.shape)
        if not shape["width"]:
            continue
        port = {"name": name, "direction": "in" if member.flow is wiring.In else "out", **shape}
        stem, _, role = name.rpartition("__")
        if role in STREAM_ROLES and all(f"{stem}__{each}" in members for each in STREAM_ROLES):
            port["stream"] = stem
            streams.setdefault(stem, {})[role] = name
            if role == "valid":
                streams[stem]["direction"] = port["direction"]
        ports.append(port)
    clocked = getattr(component, "clocked", True)
    return {
        "format_version": FORMAT_VERSION,
        "generator": GENERATOR,
        "block": block,
        "chip": chip.name,
        "top": top,
        "parameters": asdict(chip),
        "latency_cycles": getattr(component, "latency", None),
        "clock": "clk" if clocked else None,
        "reset": "rst (synchronous, active high)" if clocked else None,
        "ports": ports,
        "streams": streams,
        "verilog_bytes": len(verilog.encode()),
        "verilog_sha256": hashlib.sha256(verilog.encode()).hexdigest(),
    }
