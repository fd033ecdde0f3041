"""Tidies the RTLIL that Amaranth emits, before Yosys writes it as Verilog.

Amaranth gives every field of every layout a wire of its own and names intermediate values ``$1``, ``$2``: correct,
but two thirds of an exported array are aliases that nothing reads. `tidy` changes names and port order, and drops
aliases and operators that nothing reads; registers, memories, processes and instances stay as they are.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_IDENTIFIER = re.compile(r"(?<!\S)[\\$]\S+")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT = re.compile(r" (input|output) \d+ ?")
# Verilog-2005 keywords; as names they would be written with a backslash.
_KEYWORD_LIST = """
always and assign automatic begin buf bufif0 bufif1 case casex casez cell cmos config deassign default defparam
design disable edge else end endcase endconfig endfunction endgenerate endmodule endprimitive endspecify endtable
endtask event for force forever fork function generate genvar highz0 highz1 if ifnone incdir include initial inout
input instance integer join large liblist library localparam macromodule medium module nand negedge nmos nor
noshowcancelled not notif0 notif1 or output parameter pmos posedge primitive pull0 pull1 pulldown pullup
pulsestyle_ondetect pulsestyle_onevent rcmos real realtime reg release repeat rnmos rpmos rtran rtranif0 rtranif1
scalared showcancelled signed small specify specparam strong0 strong1 supply0 supply1 table task time tran tranif0
tranif1 tri tri0 tri1 triand trior trireg unsigned use uwire vectored wait wand weak0 weak1 while wire wor xnor
xor
"""
_KEYWORDS = frozenset(_KEYWORD_LIST.split())
_NOISE = ("\\enum_", "\\generator", "\\top", "\\src")


@dataclass
class _Wire:
    """A declared wire: its attribute lines, ``width``/``signed`` words, and port direction if it is one."""

    attributes: list[str]
    words: str
    direction: str | None

    @property
    def width(self) -> int:
        match = re.search(r"width (\d+)", self.words)
        return int(match[1]) if match else 1


@dataclass
class _Module:
    """One RTLIL module, with module-level aliases (``connect``) apart from cells and processes."""

    name: str
    wires: dict[str, _Wire] = field(default_factory=dict)
    memories: list[str] = field(default_factory=list)
    bodies: list[list[str]] = field(default_factory=list)  # cells and processes, line by line
    aliases: list[tuple[str, str]] = field(default_factory=list)  # target, value


def _parse(text: str) -> list[_Module]:
    modules: list[_Module] = []
    attributes: list[str] = []
    body: list[str] | None = None  # the cell or process being read
    depth = 0
    for line in text.splitlines():
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if body is not None:
            body.append(line)
            depth += (word == "switch") - (word == "end")
            if depth < 0:
                body, depth = None, 0
        elif not word:
            continue
        elif word == "attribute":
            if not line.split()[1].startswith(_NOISE):
                attributes.append(line)
            continue
        elif word == "module":
            modules.append(_Module(line.split()[1]))
        elif word == "wire":
            words, name = line.removeprefix("  wire").rsplit(maxsplit=1)
            port = _PORT.search(words)
            modules[-1].wires[name] = _Wire(attributes, _PORT.sub("", words).rstrip(), port and port[1])
        elif word == "memory":
            modules[-1].memories.append(line)
        elif word in ("cell", "process"):
            body = [*attributes, line]
            modules[-1].bodies.append(body)
        elif word == "connect":
            _, target, value = line.split(maxsplit=2)
            if value.startswith("[") or target == "{":  # a slice or a concatenation: not an alias of a whole wire
                raise ValueError(f"unexpected RTLIL connection: {line}")
            modules[-1].aliases.append((target, value))
        elif word != "end":
            raise ValueError(f"unexpected RTLIL line: {line}")
        attributes = []
    return modules


def _names_read(body: list[str]) -> list[str]:
    """Wires named in a cell or process, except the output of an operator cell (instances count as reading all)."""
    operator = any(line.startswith("  cell $") for line in body)
    names: list[str] = []
    for line in body:
        word, *rest = line.split(maxsplit=2)
        if word in ("assign", "switch"):
            names += _IDENTIFIER.findall(line)
        elif word == "connect" and not (operator and rest[0] == "\\Y"):
            names += _IDENTIFIER.findall(rest[1])
    return names


def _operator_output(body: list[str]) -> list[str]:
    """Wires that an operator cell (add, mux, ...) drives; none for registers, memories, instances and processes."""
    return [name for line in body if line.startswith("    connect \\Y ") for name in _IDENTIFIER.findall(line)[1:]]


def _merge_aliases(module: _Module) -> None:
    """Give wires that are one and the same a single name: a port's, a register's, or the least made-up one."""
    group: dict[str, set[str]] = {name: {name} for name in module.wires}
    for target, value in module.aliases:
        name, *part = value.split()
        wire = module.wires.get(name)
        if wire and part in ([], [_whole(wire)]) and wire.width == module.wires[target].width:
            merged = group[name] | group[target]
            group.update(dict.fromkeys(merged, merged))

    order = {name: index for index, name in enumerate(module.wires)}

    def rank(name: str) -> tuple:
        anonymous = name[1:].startswith("$") or name[0] == "$"
        return (not module.wires[name].direction, anonymous, not name.endswith("_q"), "$" in name[1:], order[name])

    best = {name: min(members, key=rank) for name, members in group.items()}
    # Two ports may share a value: each stays, and one is assigned to the other.
    best |= {name: name for name, wire in module.wires.items() if wire.direction}

    def renamed(text: str) -> str:
        return _IDENTIFIER.sub(lambda match: best.get(match[0], match[0]), text)

    module.bodies = [[_rename_line(line, renamed) for line in body] for body in module.bodies]
    aliases = ((best[target], renamed(value)) for target, value in module.aliases)
    module.aliases = [(target, value) for target, value in aliases if target != value.split()[0]]


def _whole(wire: _Wire) -> str:
    """The slice that is all of ``wire``, as RTLIL writes it."""
    return f"[{wire.width - 1}:0]" if wire.width > 1 else "[0]"


def _rename_line(line: str, renamed: Callable[[str], str]) -> str:
    """One line of a cell or process with its wires renamed; a cell's port names stay."""
    word = line.split(maxsplit=1)[0]
    if word == "connect":
        _, port, value = line.split(maxsplit=2)
        return f"    connect {port} {renamed(value)}"
    return renamed(line) if word in ("assign", "switch") else line


def _drop_unread(module: _Module) -> None:
    """Remove aliases, operators and wires that nothing reads, and wires of no width, which Verilog cannot express."""
    while True:
        reads = Counter(name for body in module.bodies for name in _names_read(body))
        reads.update(name for _, value in module.aliases for name in _IDENTIFIER.findall(value))

        def needed(name: str, reads: Counter = reads) -> bool:
            wire = module.wires[name]
            return bool(wire.width and (wire.direction or reads[name]))

        aliases = [(target, value) for target, value in module.aliases if needed(target)]
        bodies = [body for body in module.bodies if (out := _operator_output(body)) == [] or any(map(needed, out))]
        unchanged = (len(aliases), len(bodies)) == (len(module.aliases), len(module.bodies))
        module.aliases, module.bodies = aliases, bodies
        if unchanged:
            break
    module.wires = {name: wire for name, wire in module.wires.items() if needed(name)}


def _plain_names(module: _Module) -> dict[str, str]:
    """New names of the module's wires: plain Verilog identifiers, ``<register>_next`` for a register's input."""
    taken = set(_KEYWORDS)
    taken |= {name[1:] for name, wire in module.wires.items() if wire.direction}
    taken |= {line.split()[-1][1:] for line in module.memories}
    taken |= {_cell_name(body)[1:] for body in module.bodies if _cell_name(body)}

    next_of: dict[str, str] = {}
    for body in module.bodies:
        if any(line.startswith("  cell $dff ") for line in body):
            ports = {line.split()[1]: line.split()[2:] for line in body if line.startswith("    connect")}
            (value, *_), (register, *_) = ports["\\D"], ports["\\Q"]
            if value.startswith("$") and len(ports["\\Q"]) == 1:
                next_of.setdefault(value, register)

    port_of: dict[str, str] = {}  # wires that Amaranth named after a child's port
    for body in module.bodies:
        if child := _cell_name(body):
            for line in body:
                if line.startswith("    connect"):
                    _, port, value = line.split(maxsplit=2)
                    wire = value.split()[0]
                    if wire in module.wires and _stem(wire) == port[1:]:
                        port_of.setdefault(wire, f"{child[1:]}_{port[1:]}")

    names: dict[str, str] = {}

    def plain(name: str) -> str:
        if name in next_of:
            return f"{names[next_of[name]]}_next"
        if name[0] == "$":
            return f"value_{name[1:]}"
        if name in port_of and not module.wires[name].attributes:
            return port_of[name]
        return re.sub(r"[^A-Za-z0-9_]+", "_", _stem(name)).strip("_") or "unnamed"

    # Registers' inputs last: their names follow the registers'.
    for name in sorted(module.wires, key=lambda name: name in next_of):
        if module.wires[name].direction:
            names[name] = name[1:]
            continue
        wanted = candidate = plain(name)
        serial = 1
        while candidate in taken:
            serial += 1
            candidate = f"{wanted}_{serial}"
        taken.add(candidate)
        names[name] = candidate
    return names


def _stem(name: str) -> str:
    """``\\name$7`` as Amaranth's user wrote it."""
    return re.sub(r"\$\d+$", "", name[1:])


def _cell_name(body: list[str]) -> str | None:
    """Name of an instance (cells of Yosys' own kinds have none worth keeping); None for a process."""
    for line in body:
        if line.startswith("  cell \\"):
            return line.split()[2]
    return None


def _module_name(name: str) -> str:
    """``\\top.child`` as a plain identifier."""
    plain = "\\" + name[1:].replace(".", "_")
    if not _PLAIN.fullmatch(plain[1:]):
        raise ValueError(f"module {name} has no plain Verilog name")
    return plain


def _port_order(module: _Module, first: list[str]) -> list[str]:
    """Ports of ``module``: clock and reset, then those of ``first`` in order, then the rest by name."""
    ports = {name for name, wire in module.wires.items() if wire.direction}
    order = [f"\\{name}" for name in ("clk", "rst", *first) if f"\\{name}" in ports]
    return order + sorted(ports - set(order))


def _write(module: _Module, port_order: list[str]) -> str:
    names = {old: f"\\{new}" for old, new in _plain_names(module).items()}

    def renamed(text: str) -> str:
        return _IDENTIFIER.sub(lambda match: names[match[0]], text)

    number = {name: index for index, name in enumerate(_port_order(module, port_order), start=1)}
    lines = [f"module {_module_name(module.name)}"]
    for name, wire in module.wires.items():
        port = f" {wire.direction} {number[name]}" if wire.direction else ""
        lines += [*wire.attributes, f"  wire{wire.words}{port} {names[name]}"]
    lines += module.memories
    for body in module.bodies:
        for line in body:
            if line.startswith("  cell \\"):
                _, kind, instance = line.split()
                lines.append(f"  cell {_module_name(kind)} {instance}")
            else:
                lines.append(_rename_line(line, renamed))
    lines += [f"  connect {names[target]} {renamed(value)}" for target, value in module.aliases]
    return "\n".join([*lines, "end", ""])


def tidy(text: str, ports: list[str]) -> str:
    """RTLIL ``text`` of one top module and its submodules with plain names and without unread aliases.

    ``ports`` orders the first module's ports. Raises ValueError on a construct that Amaranth does not emit today,
    rather than passing on what it does not understand.
    """
    modules = _parse(text)
    for module in modules:
        _merge_aliases(module)
        _drop_unread(module)
    return "".join(_write(module, ports) for module in modules)
