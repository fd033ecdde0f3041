"""The host's register map: one description for RTL decode, C header, Markdown and the host library.

Addresses are in bytes; a register is a 32-bit word. A map is a list of blocks (identification, one per PE); a block
is a list of registers and windows (memories behind consecutive words). Standard library only.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from hw.errors import UserError
from hw.isa.counters import COUNTER_PLACES, counters_of
from hw.params import MEMORIES, ChipParams, HbParams
from hw.params.checks import require

IDENTITY = 0x454C3344
"""First word of every map: the letters EL3D."""
MAP_VERSION = 1
"""Grows with every change that old host software would misread."""
WORD_BYTES = 4
PE_BASE, PE_STRIDE = 0x10_0000, 0x10_0000
"""Address of PE 0's block, and from one PE's to the next."""
BANK_WINDOW_BYTES = PE_STRIDE // 2
"""Upper half of a PE's block; a board's bank is no larger."""
PAGE_BYTES = 4096
"""AXI4 memories begin at multiples of this; no burst crosses one."""


class Access(Enum):
    """What the host can do with a register.

    CONSTANT  read; the same in every run
    READ      read; driven by the hardware
    WRITE     read and write; holds what was written, 0 after reset
    """

    CONSTANT = "read, constant"
    READ = "read"
    WRITE = "read and write"


@dataclass(frozen=True)
class Field:
    """``bits`` of a register, above those of the fields before it; ``value`` counts in constants only."""

    name: str
    bits: int
    note: str
    value: int = 0


@dataclass(frozen=True)
class Register:
    """One 32-bit register at ``offset`` in its block. Writing one that is not WRITE is an error."""

    name: str
    offset: int
    access: Access
    fields: tuple[Field, ...]
    note: str

    @property
    def words(self) -> int:
        """Words occupied."""
        return 1

    @property
    def constant(self) -> int:
        """Value of a CONSTANT register."""
        value, at = 0, 0
        for field in self.fields:
            value |= field.value << at
            at += field.bits
        return value

    def unpack(self, word: int) -> dict[str, int]:
        """Field values of what was read."""
        values, at = {}, 0
        for field in self.fields:
            values[field.name] = word >> at & (1 << field.bits) - 1
            at += field.bits
        return values


@dataclass(frozen=True)
class Window:
    """``words`` 32-bit words of a memory at ``offset``; an entry has ``entry_words`` of them, lowest first.

    ``writable`` False: the host only reads it; ``readable`` False: it only writes.
    """

    name: str
    offset: int
    words: int
    note: str
    entry_words: int = 1
    readable: bool = True
    writable: bool = True


@dataclass(frozen=True)
class Block:
    """``count`` equal blocks, the first at ``base``, then every ``stride`` bytes."""

    name: str
    base: int
    stride: int
    entries: tuple[Register | Window, ...]
    note: str
    count: int = 1

    @property
    def registers(self) -> tuple[Register, ...]:
        """The block's registers."""
        return tuple(entry for entry in self.entries if isinstance(entry, Register))

    @property
    def windows(self) -> tuple[Window, ...]:
        """The block's windows."""
        return tuple(entry for entry in self.entries if isinstance(entry, Window))


@dataclass(frozen=True)
class MemoryMap:
    """All that the host can address; everything else is answered with an error.

    Raises UserError where entries overlap, are unaligned or leave their block, or blocks are not aligned to their
    stride, which must be a power of two.
    """

    name: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        blocks = sorted(self.blocks, key=lambda block: block.base)
        for one, other in pairwise(blocks):
            self._apart(one.name, one.base + one.count * one.stride, other.name, other.base)
        for block in blocks:
            aligned = block.stride & (block.stride - 1) == 0 and block.base % block.stride == 0
            require(aligned, f"base of {block.name}", "a multiple of its stride, a power of two", block.base)
            entries = sorted(block.entries, key=lambda entry: entry.offset)
            for entry in entries:
                what = f"{block.name}.{entry.name}"
                end = entry.offset + WORD_BYTES * entry.words
                require(entry.offset % WORD_BYTES == 0, f"offset of {what}", "a multiple of 4", entry.offset)
                require(end <= block.stride, f"end of {what}", f"at most {block.stride:#x}", end)
                if isinstance(entry, Register):
                    bits = sum(field.bits for field in entry.fields)
                    require(bits <= 32, f"width of {what}", "at most 32 bits", bits)
                else:
                    size = WORD_BYTES << (entry.words - 1).bit_length()
                    require(entry.offset % size == 0, f"offset of {what}", f"a multiple of {size:#x}", entry.offset)
            for one, other in pairwise(entries):
                self._apart(one.name, one.offset + WORD_BYTES * one.words, other.name, other.offset)

    def _apart(self, one: str, end: int, other: str, start: int) -> None:
        if start < end:
            raise UserError(f"memory map {self.name}: {one} and {other} overlap")

    def find(self, path: str, index: int = 0) -> tuple[int, Register | Window]:
        """Address and description of "block.entry" in copy ``index`` of the block; UserError where there is none."""
        name, _, wanted = path.partition(".")
        for block in self.blocks:
            for entry in block.entries:
                if (block.name, entry.name) == (name, wanted):
                    require(0 <= index < block.count, f"index of {name}", f"0 to {block.count - 1}", index)
                    return block.base + index * block.stride + entry.offset, entry
        raise UserError(f"memory map {self.name} has no {path!r}")


@dataclass(frozen=True)
class BufferSizes:
    """Entries of the buffers between host and PE, powers of two.

    dispatch                words of the dispatch stream
    stream, aggregate, out  link words to the PE's stream link, to its aggregation link, from it
    events, host            events, HOST requests kept
    """

    dispatch: int = 256
    stream: int = 1024
    aggregate: int = 256
    out: int = 256
    events: int = 64
    host: int = 64


@dataclass(frozen=True)
class BankWindows:
    """The banks of ``count`` PEs on the host's AXI4 memory port: that of PE i begins at i * ``stride``.

    Consecutive data columns follow each other, lowest byte first. What is no bank is answered with an error.
    """

    hb: HbParams
    count: int

    @property
    def bank_bytes(self) -> int:
        """Bytes of a bank."""
        return self.hb.capacity_bytes

    @property
    def stride(self) -> int:
        """A power of two, at least `PAGE_BYTES`: no legal burst reaches two banks."""
        return max(PAGE_BYTES, 1 << (self.bank_bytes - 1).bit_length())

    @property
    def address_bits(self) -> int:
        """One more than the banks need, so that there are addresses beyond the last."""
        return (self.stride * self.count - 1).bit_length() + 1

    def address(self, bank: int, column: int) -> int:
        """Of a data column's first byte."""
        require(0 <= bank < self.count, "bank", f"0 to {self.count - 1}", bank)
        last = self.bank_bytes // self.hb.column_bytes - 1
        require(0 <= column <= last, "column", f"0 to {last}", column)
        return bank * self.stride + column * self.hb.column_bytes


def die_map(chip: ChipParams, buffers: BufferSizes) -> MemoryMap:
    """Map of a die or board of ``chip.pes`` PEs, each between a bank and buffers that the host fills and reads.

    A counter of `COUNTER_PLACES` that the chip's PEs do not have is not in the map: reading it is an error.

    Raises UserError where a memory does not fit its window.
    """
    pe = chip.pe
    word = chip.array.columns  # 32-bit words of a link word, of a column
    has_bank = chip.memory == "hb"  # otherwise the host reaches the memory without us
    bank_words = min(chip.hb.rows * chip.hb.columns_per_row * word, BANK_WINDOW_BYTES // WORD_BYTES)
    entries = (
        Register("CONTROL", 0x000, Access.WRITE, (Field("run", 1, "0: in reset, the host has the memories"),), "reset"),
        Register(
            "STATUS",
            0x004,
            Access.READ,
            (
                Field("busy", 1, "a record, kernel or command is in progress"),
                Field("finished", 1, "the program is over, or an error stopped it; all counters stand still"),
                Field("overflow", 1, "OUT, EVENTS or HOST were full"),
                Field("violation", 1, "a DRAM command came too early, or to the wrong state of the bank")
                if has_bank
                else Field("bus_error", 1, "the memory answered with an error"),
                Field("error", 4, "first error, code of docs/pe.md"),
                Field("unit", 4, "unit that found it"),
            ),
            "state",
        ),
        Register("INSTRUCTION", 0x008, Access.READ, (Field("instruction", 32, "of the first error"),), "error"),
        Register("CYCLES", 0x00C, Access.READ, (Field("cycles", 32, "since RUN, until finished"),), "time"),
        *(
            Register(f"{name}_COUNT", 0x010 + 4 * i, Access.WRITE, (Field("entries", 16, note),), "length")
            for i, (name, note) in enumerate(
                (
                    ("DISPATCH", "words of DISPATCH that the PE gets"),
                    ("STREAM", "words of STREAM offered to the PE"),
                    ("AGGREGATE", "words of AGGREGATE offered to the PE"),
                )
            )
        ),
        Register("HOST_LATENCY", 0x01C, Access.WRITE, (Field("cycles", 16, "from HOST request to answer"),), "time"),
        *(
            Register(f"{name}_COUNT", 0x020 + 4 * i, Access.READ, (Field("entries", 16, note),), "length")
            for i, (name, note) in enumerate((("OUT", "words sent"), ("EVENTS", "events"), ("HOST", "requests")))
        ),
        *(() if has_bank else (_memory_base(chip),)),
        *(
            Register(name.upper(), 0x100 + 4 * COUNTER_PLACES[name], Access.READ, (Field("count", 32, "wraps"),), note)
            for name, note in counters_of(chip.memory).items()
        ),
        Window("EVENTS", 0x1000, 4 * buffers.events, "kind, a, b, unused", 4, writable=False),
        Window("HOST", 0x2000, 4 * buffers.host, "a, b, d, unused", 4, writable=False),
        Window("DESCRIPTORS", 0x4000, pe.descriptors, "DM", readable=False),
        Window("DISPATCH", 0x8000, buffers.dispatch, "dispatch records", readable=False),
        Window("INSTRUCTIONS", 0x1_0000, 8 * pe.instructions, "IM: five words of eight", 8, readable=False),
        Window("AGGREGATE", 0x2_0000, word * buffers.aggregate, "words for the PE", word, readable=False),
        Window("OUT", 0x3_0000, word * buffers.out, "words from the PE", word, writable=False),
        Window("STREAM", 0x4_0000, word * buffers.stream, "words for the PE", word, readable=False),
    )
    if has_bank:
        note = "first 512 KiB of the bank, physical columns"
        entries += (Window("BANK", BANK_WINDOW_BYTES, bank_words, note, word),)
    return MemoryMap(
        chip.name,
        (
            Block("id", 0, 0x1000, _identification(chip), "who answers, and its sizes"),
            Block("pe", PE_BASE, PE_STRIDE, entries, "one PE with its bank and buffers", chip.pes),
        ),
    )


def _memory_base(chip: ChipParams) -> Register:
    bits = chip.axi.address_bits - (PAGE_BYTES - 1).bit_length()
    field = Field("page", bits, "of 4 KiB, with which the PE's memory begins; written while run is 0")
    return Register("MEMORY_BASE", 0x02C, Access.WRITE, (field,), "place")


def _identification(chip: ChipParams) -> tuple[Register, ...]:
    array, hb = chip.array, chip.hb
    constants = (
        ("IDENTITY", "who answers", (Field("magic", 32, "the letters EL3D", IDENTITY),)),
        (
            "VERSION",
            "what answers",
            (
                Field("map", 16, "version of this map", MAP_VERSION),
                Field("pes", 12, "PEs", chip.pes),
                Field("memory", 4, "behind a PE: 0 an HB bank, 1 AXI4", MEMORIES.index(chip.memory)),
            ),
        ),
        (
            "ARRAY",
            "sizes of the PE array",
            (
                Field("rows", 8, "tokens at once", array.rows),
                Field("columns", 8, "outputs at once", array.columns),
                Field("depth", 8, "slice MACs per dot unit", array.depth),
                Field("chains", 8, "FP32 chains per dot unit", array.chains),
            ),
        ),
        (
            "BANK",
            "sizes of a bank",
            (Field("columns", 12, "of a row", hb.columns_per_row), Field("rows", 20, "of the bank", hb.rows)),
        ),
    )
    registers = tuple(Register(name, 4 * i, Access.CONSTANT, f, note) for i, (name, note, f) in enumerate(constants))
    return (*registers, Register("SCRATCH", 0x10, Access.WRITE, (Field("value", 32, "anything"),), "to try the link"))
