"""Random legal programs of the PE: every command, mode and memory, free of races, with late links and full queues.

The generator knows which places hold a value, so that nothing is read that was never written, and leaves ordering to
`verification.programs.schedule`. What it may not do is what docs/pe.md forbids; what it cannot reach is listed with its
reason in `verification.programs.coverage`.
"""

from dataclasses import dataclass, field

import numpy as np

from hw.isa import WeightMode
from hw.isa.encoding import (
    DESCRIPTOR_VALID,
    OFFSET_MAX,
    OFFSET_MIN,
    ActivationSpace,
    GatherSpace,
    Opcode,
    Operand,
    Unit,
    VectorSource,
    VectorTarget,
    WeightSpace,
    pack,
    record_header,
)
from hw.isa.program import Chunk, PeProgram
from hw.params import ROW_REGISTERS, ChipParams
from verification.programs.schedule import Place, Schedule

_BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)
_SCRATCH = 15
"""Register that counts in loops; operands never use it."""
HB_COLUMNS = 64
"""Columns of the HB image, and where refills go."""
_LATENESS = {"none": (0, 1), "light": (60, 8), "heavy": (400, 3)}
"""Stall profile -> (cycles by which a chunk may be late, words of a chunk at most x 4)."""


@dataclass
class _Known:
    """Places that hold a value."""

    columns: set[int] = field(default_factory=set)
    wh: set[int] = field(default_factory=set)
    wl: set[int] = field(default_factory=set)
    al: set[int] = field(default_factory=set)  # link words
    av: set[int] = field(default_factory=set)  # group words
    rt: set[int] = field(default_factory=set)
    vt: set[int] = field(default_factory=set)
    lt: set[int] = field(default_factory=set)
    xm: set[int] = field(default_factory=set)  # words, wholly written
    rows: set[int] = field(default_factory=set)
    maps: dict[int, list[int]] = field(default_factory=dict)  # row register -> its integers
    map_words: dict[int, list[int]] = field(default_factory=dict)  # LT row -> integers
    chains: set[int] = field(default_factory=set)


class Generator:
    """One program for ``chip``.

    Parameters
    ----------
    commands : int
        How often something random is appended; bursts, loops and control make the program longer.
    lateness : str
        none, light or heavy: how late link words are.
    show : bool
        At the end send everything in RT, VT, LT and the row registers out, where memories cannot be looked into.
    """

    def __init__(self, chip: ChipParams, seed: int, *, commands: int = 40, lateness: str = "light", show: bool = False):
        self.chip, self._lateness = chip, lateness
        self._rng = np.random.default_rng([seed, len(lateness)])
        self._schedule = Schedule()
        self._known = _Known()
        self._stream: list[int] = []
        self._gather: list[int] = []
        self._registers: dict[int, int] = {}
        self._records: list[tuple[int, list[int]]] = []  # (entry of the kernel, register words)
        self._descriptors: list[int] = []
        self._kernel_begins = 0
        self._word_bytes = 4 * chip.array.columns
        self._words_per_group = 8 * chip.array.rows // chip.array.columns
        self._pieces = 32 // chip.array.columns
        self._begin_kernel()
        self._prologue()
        for _ in range(commands):
            self._one()
        if show:
            self._send_everything()
        self._end_kernel()

    # Program parts -------------------------------------------------------------------------------------------

    def program(self) -> PeProgram:
        """The program; the links are as late as asked for."""
        dispatch = []
        for entry, values in self._records:
            dispatch += [record_header(entry, len(values)), *values]
        host = tuple(int(x) for x in self._rng.integers(0, 40, 5))
        return PeProgram(
            self.chip,
            instructions=[pack(entry.command()) for entry in self._schedule.entries],
            descriptors=self._descriptors,
            dispatch=dispatch,
            hb=self._image,
            stream=self._chunks(self._stream),
            aggregation=self._chunks(self._gather),
            host_cycles=host,
            kernels={f"kernel_{i}": entry for i, (entry, _) in enumerate(self._records)},
        )

    def _chunks(self, words: list[int]) -> list[Chunk]:
        late, length = _LATENESS[self._lateness]
        chunks, at, cycle = [], 0, 0
        while at < len(words):
            size = int(self._rng.integers(1, 4 * length + 1)) if late else len(words)
            cycle += int(self._rng.integers(0, late + 1)) if self._rng.random() < 0.7 else 0
            chunks.append(Chunk(cycle, tuple(words[at : at + size])))
            at += size
        return chunks

    def _begin_kernel(self) -> None:
        number = int(self._rng.integers(0, 5))
        values = [int(x) for x in self._rng.integers(0, 200, number)]
        self._records.append((len(self._schedule.entries), values))
        self._registers.update(enumerate(values, start=1))

    def _end_kernel(self) -> None:
        self._schedule.control(Opcode.RETURN)

    def _word(self) -> int:
        """A word that is a good weight, scale, activation or FP32 row: ordinary FP16 values, sometimes anything."""
        if self._rng.random() < 0.1:
            return int.from_bytes(self._rng.bytes(self._word_bytes), "little")
        halves = self._rng.lognormal(-3, 1, self._word_bytes // 2).astype(np.float16)
        halves *= self._rng.choice([-1, 1], halves.size).astype(np.float16)
        return int.from_bytes(halves.tobytes(), "little")

    def _row_word(self) -> int:
        """FP32 values, ordinary or any bits."""
        if self._rng.random() < 0.1:
            return self._word()
        return int.from_bytes(self._rng.standard_normal(self.chip.array.columns).astype("<f4").tobytes(), "little")

    def _prologue(self) -> None:
        """Something in every memory, so that any command can follow."""
        self._image = {column: self._word() for column in range(HB_COLUMNS)}
        self._known.columns = set(self._image)
        hb_words = min(self.chip.pe.wh_words, 40)
        self._hb_load(0, int(self._rng.integers(0, HB_COLUMNS - hb_words + 1)), hb_words)
        self._stream_load(0, min(self.chip.pe.wl_words, 40))
        self._gather_al(0, 3 * self._words_per_group)
        self._gather_lt(0, 8)
        self._gather_map(8)
        for register in (0, 1):
            self._row_load(register, register)
        self._row_load(2, 8)
        self._matmul_once(first=1, last=1)

    def _one(self) -> None:
        """One more random command, or control around some."""
        choices = {
            self._random_hb_load: 5,
            self._random_stream_load: 4,
            self._random_refill: 4,
            self._random_gather: 5,
            self._random_matmul: 9,
            self._random_binary: 12,
            self._random_copy: 5,
            self._random_quantize: 7,
            self._random_absmax: 5,
            self._random_row_command: 6,
            self._random_store: 5,
            self._host: 2,
            self._random_control: 6,
        }
        weights = np.array(list(choices.values()), dtype=float)
        make = list(choices)[self._rng.choice(len(choices), p=weights / weights.sum())]
        burst = make != self._random_control and self._rng.random() < 0.08
        for _ in range(2 * self.chip.pe.queue_depth if burst else 1):
            make()

    # Operands ------------------------------------------------------------------------------------------------

    def _operands(self, values: dict[str, int]) -> dict[str, Operand]:
        """Register + offset for each value. Registers are set before any is used, so that none changes meanwhile."""
        large = [value for value in values.values() if value > OFFSET_MAX]
        for register, value in enumerate(large, start=int(self._rng.integers(1, 7))):
            self._set(register, value)
        return {slot: self._operand(value) for slot, value in values.items()}

    def _operand(self, value: int) -> Operand:
        """Register + offset that give ``value``; one that is too large for an offset has its register already."""
        near = [r for r, known in self._registers.items() if OFFSET_MIN <= value - known <= OFFSET_MAX]
        if near and (value > OFFSET_MAX or self._rng.random() < 0.5):
            register = int(self._rng.choice(near))
            return Operand(register, value - self._registers[register])
        return Operand(0, value)

    def _set(self, register: int, value: int) -> None:
        self._schedule.control(Opcode.SET, value=value, register=register)
        self._registers[register] = value

    def _add(
        self, opcode: Opcode, unit: Unit, values: dict[str, int], reads: set[Place], writes: set[Place], **fields: int
    ) -> None:
        operands = self._operands(values)
        numbers = {name: int(value) for name, value in fields.items()}
        entries = self._schedule.entries
        after = len(entries) - int(self._rng.integers(1, 6)) if self._rng.random() < 0.3 else None
        self._schedule.add(unit, opcode, operands, reads, writes, numbers, after if after and after > 0 else None)

    def _pick(self, *values):
        return values[self._rng.integers(len(values))]

    def _run_of(self, places: set[int], most: int, multiple: int = 1) -> tuple[int, int] | None:
        """Random (first, count) of consecutive known places, at most ``most`` and a multiple; None where none fit."""
        starts = [p for p in places if all(p + i in places for i in range(multiple))]
        if not starts:
            return None
        first = int(self._rng.choice(starts))
        longest = 0
        while longest < most and first + longest in places:
            longest += 1
        longest -= longest % multiple
        if longest < multiple:
            return None
        count = multiple * int(self._rng.integers(1, longest // multiple + 1))
        return first, count

    # Loads ---------------------------------------------------------------------------------------------------

    def _hb_load(self, d: int, a: int, n: int) -> None:
        writes = {("WH", d + i) for i in range(n)}
        self._add(Opcode.HB_LOAD, Unit.HB, {"d": d, "a": a, "n": n}, {("HB", a + i) for i in range(n)}, writes)
        self._known.wh |= {d + i for i in range(n)}

    def _random_hb_load(self) -> None:
        a, n = self._run_of(self._known.columns, min(40, self.chip.pe.wh_words))
        self._hb_load(int(self._rng.integers(0, self.chip.pe.wh_words - n + 1)), a, n)

    def _stream_load(self, d: int, n: int) -> None:
        self._stream += [self._word() for _ in range(n)]
        self._add(Opcode.STREAM_LOAD, Unit.STREAM, {"d": d, "n": n}, set(), {("WL", d + i) for i in range(n)})
        self._known.wl |= {d + i for i in range(n)}

    def _random_stream_load(self) -> None:
        n = int(self._rng.integers(1, 25))
        self._stream_load(int(self._rng.integers(0, self.chip.pe.wl_words - n + 1)), n)

    def _random_refill(self) -> None:
        n = int(self._rng.integers(1, 25))
        d = int(self._rng.integers(0, HB_COLUMNS))
        self._stream += [self._word() for _ in range(n)]
        self._add(Opcode.STREAM_REFILL, Unit.STREAM, {"d": d, "n": n}, set(), {("HB", d + i) for i in range(n)})
        self._known.columns |= {d + i for i in range(n)}

    def _gather_al(self, d: int, n: int) -> None:
        self._gather += [self._word() for _ in range(n)]
        groups = {("AL", (d + i) // self._words_per_group) for i in range(n)}
        self._add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": n}, set(), groups, space=GatherSpace.AL)
        self._known.al |= {d + i for i in range(n)}

    def _gather_lt(self, d: int, n: int) -> None:
        self._gather += [self._row_word() for _ in range(n)]
        writes = {("LT", d + i) for i in range(n)}
        self._add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": n}, set(), writes, space=GatherSpace.LT)
        self._known.lt |= {d + i for i in range(n)}
        for i in range(n):
            self._known.map_words.pop(d + i, None)

    def _gather_map(self, d: int) -> None:
        """An LT row whose first R values are distinct small integers."""
        rows = self.chip.array.rows
        values = [int(x) for x in self._rng.permutation(4 * rows)[:rows]]
        self._gather.append(sum(value << 32 * i for i, value in enumerate(values)))
        self._add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": 1}, set(), {("LT", d)}, space=GatherSpace.LT)
        self._known.lt.add(d)
        self._known.map_words[d] = values

    def _random_gather(self) -> None:
        kind = self._rng.integers(3)
        if kind == 0:
            n = int(self._rng.integers(1, 3 * self._words_per_group))
            most = min(self.chip.pe.al_groups, 8) * self._words_per_group
            self._gather_al(int(self._rng.integers(0, most - n + 1)), n)
        elif kind == 1:
            n = int(self._rng.integers(1, 9))
            self._gather_lt(int(self._rng.integers(0, self.chip.pe.lt_rows - n + 1)), n)
        else:
            self._gather_map(int(self._rng.integers(0, self.chip.pe.lt_rows)))

    # Array ---------------------------------------------------------------------------------------------------

    def _random_matmul(self) -> None:
        self._matmul_once(first=int(self._rng.random() < 0.6), last=int(self._rng.random() < 0.6))

    def _matmul_once(self, first: int, last: int) -> None:
        array, pe, known = self.chip.array, self.chip.pe, self._known
        a_space = self._pick(*ActivationSpace)
        w_space, s_space = self._pick(*WeightSpace), self._pick(*WeightSpace)
        per = self._words_per_group
        al = {p // per for p in known.al if p % per == 0 and all(p + i in known.al for i in range(per))}
        groups = known.av if a_space == ActivationSpace.AV else al
        if not groups:
            a_space, groups = ActivationSpace.AL, al
        m = int(self._rng.integers(1, min(array.chains, pe.rt_rows // array.rows) + 1))
        found = self._run_of(groups, 6)
        m = min(m, found[1])
        n = min(found[1] // m, 6)
        codes = self._run_of(known.wh if w_space == WeightSpace.WH else known.wl, 4 * n, 4)
        if codes is None:
            return
        n = min(n, codes[1] // 4)
        scales = self._run_of(known.wh if s_space == WeightSpace.WH else known.wl, (n + 1) // 2)
        n = min(n, 2 * scales[1])
        chain = int(self._rng.integers(0, array.chains - m + 1))
        if not all(chain + k in known.chains for k in range(m)):
            first = 1
        known.chains |= {chain + k for k in range(m)}
        d = array.rows * int(self._rng.integers(0, pe.rt_rows // array.rows - m + 1))
        names = {0: "WH", 1: "WL"}
        reads = {(names[int(w_space)], codes[0] + i) for i in range(4 * n)}
        reads |= {(names[int(s_space)], scales[0] + i) for i in range((n + 1) // 2)}
        reads |= {("AV" if a_space == ActivationSpace.AV else "AL", found[0] + i) for i in range(n * m)}
        writes = {("RT", d + i) for i in range(m * array.rows)} if last else set()
        if last:
            known.rt |= {d + i for i in range(m * array.rows)}
        self._add(
            Opcode.MATMUL,
            Unit.ARRAY,
            {"d": d, "a": found[0], "b": codes[0], "s": scales[0], "n": n, "m": m},
            reads,
            writes,
            mode=self._pick(*WeightMode),
            chain=chain,
            first=first,
            last=last,
            a_space=a_space,
            w_space=w_space,
            s_space=s_space,
        )

    # Vector unit ---------------------------------------------------------------------------------------------

    def _source(self, most: int, spaces=(VectorSource.RT, VectorSource.VT, VectorSource.LT)):
        """(space, first, count) of rows that hold values."""
        space = self._pick(*spaces)
        known = {VectorSource.RT: self._known.rt, VectorSource.VT: self._known.vt, VectorSource.LT: self._known.lt}
        found = self._run_of(known[space], most)
        if found is None:
            space, found = VectorSource.LT, self._run_of(self._known.lt, most)
        return space, *found

    def _target(self, n: int, source: VectorSource, a: int, avoid: set[int]) -> tuple[VectorTarget, int]:
        """(memory, first row) for n rows: the rows read, or rows that no later row of the command reads."""
        xm = VectorTarget.XM, int(self._rng.integers(0, self.chip.pe.xm_words - n + 1))
        if self._rng.random() < 0.35:
            return xm
        if source == VectorSource.VT and not avoid and self._rng.random() < 0.3:
            return VectorTarget.VT, a
        if source == VectorSource.VT:
            avoid = avoid | {a + i for i in range(n)}
        for _ in range(20):
            d = int(self._rng.integers(0, min(self.chip.pe.vt_rows, 96) - n + 1))
            if not avoid & {d + i for i in range(n)}:
                return VectorTarget.VT, d
        return xm  # operands and result do not all fit into the part of VT that is used

    def _wrote(self, target: VectorTarget, places: set[int]) -> None:
        (self._known.vt if target == VectorTarget.VT else self._known.xm).update(places)

    def _random_binary(self) -> None:
        rows = self.chip.array.rows
        if self._rng.random() < 0.25 and self._known.maps:
            self._indexed()
            return
        a_space, a, n = self._source(2 * rows + 3)
        b_space = self._pick(*VectorSource)
        reads = {(a_space.name, a + i) for i in range(n)}
        fields: dict[str, int] = {}
        avoid: set[int] = set()
        b = 0
        if b_space == VectorSource.ROW:
            fields["row_b"] = int(self._rng.choice(sorted(self._known.rows)))
        elif b_space == VectorSource.IMMEDIATE:
            b = int(self._rng.standard_normal(1).astype("<f4").view("<u4")[0])
        else:
            fields["broadcast"] = int(self._rng.random() < 0.4)
            b_space, b, count = self._source(1 if fields["broadcast"] else n, (b_space,))
            n = n if fields["broadcast"] else count
            places = {b + i for i in range(1 if fields["broadcast"] else n)}
            reads = {(a_space.name, a + i) for i in range(n)} | {(b_space.name, place) for place in places}
            avoid = places if b_space == VectorSource.VT else set()
        d_space, d = self._target(n, a_space, a, avoid)
        self._binary(
            {"d": d, "a": a, "b": b, "n": n}, reads, {d + i for i in range(n)}, a_space, b_space, d_space, fields
        )

    def _indexed(self) -> None:
        """Rows through a map; a in LT, RT or VT where every mapped row holds a value."""
        register = int(self._rng.choice(sorted(self._known.maps)))
        offsets = self._known.maps[register]
        n = int(self._rng.integers(1, self.chip.array.rows + 1))
        sizes = {
            VectorSource.RT: (self._known.rt, self.chip.pe.rt_rows),
            VectorSource.VT: (self._known.vt, self.chip.pe.vt_rows),
            VectorSource.LT: (self._known.lt, self.chip.pe.lt_rows),
        }
        fitting = []
        for space, (known, size) in sizes.items():
            bases = [a for a in range(min(size, 128)) if all((a + x) % size in known for x in offsets[:n])]
            fitting += [(space, int(self._rng.choice(bases)), size)] if bases else []
        if not fitting:
            return
        a_space, a, size = fitting[self._rng.integers(len(fitting))]
        d_space = self._pick(VectorTarget.VT, VectorTarget.XM)
        target_size = self.chip.pe.vt_rows if d_space == VectorTarget.VT else self.chip.pe.xm_words
        sources = [(a + x) % size for x in offsets[:n]]
        d = a if (d_space, a_space) == (VectorTarget.VT, VectorSource.VT) else int(self._rng.integers(0, target_size))
        places = {(d + x) % target_size for x in offsets[:n]}
        reads = {(a_space.name, place) for place in sources}
        values = {"d": d, "a": a, "b": int(np.float32(self._rng.standard_normal()).view(np.uint32)), "n": n}
        fields = {"indexed": 1, "map": register}
        self._binary(values, reads, places, a_space, VectorSource.IMMEDIATE, d_space, fields)

    def _binary(self, values, reads, places, a_space, b_space, d_space, fields) -> None:
        writes = {(d_space.name, place) for place in places}
        spaces = {"a_space": a_space, "b_space": b_space, "d_space": d_space}
        self._add(self._pick(*_BINARY), Unit.VECTOR, values, reads, writes, **spaces, **fields)
        self._wrote(d_space, places)

    def _random_copy(self) -> None:
        opcode = self._pick(Opcode.MOVE, Opcode.SIGMOID)
        a_space, a, n = self._source(2 * self.chip.array.rows + 3)
        d_space, d = self._target(n, a_space, a, set())
        reads, writes = {(a_space.name, a + i) for i in range(n)}, {(d_space.name, d + i) for i in range(n)}
        self._add(opcode, Unit.VECTOR, {"d": d, "a": a, "n": n}, reads, writes, a_space=a_space, d_space=d_space)
        self._wrote(d_space, {d + i for i in range(n)})

    def _random_quantize(self) -> None:
        """Whole group words, to AV or to XM, so that what is written can be read."""
        rows, pe = self.chip.array.rows, self.chip.pe
        whole = rows * self._pieces
        candidates = [s for s in VectorSource if s <= VectorSource.LT]
        known = {VectorSource.RT: self._known.rt, VectorSource.VT: self._known.vt, VectorSource.LT: self._known.lt}
        fitting = [(s, self._run_of(known[s], whole, whole)) for s in candidates]
        fitting = [(s, found[0]) for s, found in fitting if found]
        if not fitting or self._rng.random() < 0.2:
            self._fill_rows(whole)
            return
        a_space, a = fitting[self._rng.integers(len(fitting))]
        d_space = self._pick(VectorTarget.AV, VectorTarget.XM)
        groups = min(pe.av_groups, 6) if d_space == VectorTarget.AV else pe.xm_words // self._words_per_group
        group = int(self._rng.integers(0, groups))
        if d_space == VectorTarget.AV:
            writes = {("AV", group)}
            self._known.av.add(group)
        else:
            words = {group * self._words_per_group + i for i in range(self._words_per_group)}
            writes = {("XM", word) for word in words}
            self._known.xm |= words
        values = {"d": group * self._pieces, "a": a, "n": whole}
        register = int(self._rng.choice(sorted(self._known.rows)))
        reads = {(a_space.name, a + i) for i in range(whole)}
        self._add(Opcode.QUANTIZE, Unit.VECTOR, values, reads, writes, a_space=a_space, d_space=d_space, row_b=register)

    def _fill_rows(self, count: int) -> None:
        """``count`` consecutive rows of LT, and a copy of them in VT."""
        self._gather_lt(0, count)
        d = int(self._rng.integers(0, 128 - count))
        reads, writes = {("LT", i) for i in range(count)}, {("VT", d + i) for i in range(count)}
        values = {"d": d, "a": 0, "n": count}
        self._add(Opcode.MOVE, Unit.VECTOR, values, reads, writes, a_space=VectorSource.LT, d_space=VectorTarget.VT)
        self._known.vt |= {d + i for i in range(count)}

    def _random_absmax(self) -> None:
        rows = self.chip.array.rows
        first = int(self._rng.random() < 0.5)
        a_space, a, n = self._source(rows if first else 2 * rows + 3)
        whole = first and n == rows  # a register that held nothing is then known
        register = int(self._rng.integers(ROW_REGISTERS)) if whole else int(self._rng.choice(sorted(self._known.rows)))
        reads = {(a_space.name, a + i) for i in range(n)}
        self._add(
            Opcode.ROW_ABSMAX, Unit.VECTOR, {"a": a, "n": n}, reads, set(), a_space=a_space, row=register, first=first
        )
        self._row_written(register)

    def _row_written(self, register: int) -> None:
        self._known.rows.add(register)
        self._known.maps.pop(register, None)

    def _row_load(self, register: int, a: int) -> None:
        self._add(Opcode.ROW_LOAD, Unit.VECTOR, {"a": a}, {("LT", a)}, set(), row=register)
        self._row_written(register)
        if a in self._known.map_words:
            self._known.maps[register] = self._known.map_words[a]

    def _random_row_command(self) -> None:
        rng, known = self._rng, self._known
        opcode = self._pick(
            Opcode.ROW_LOAD,
            Opcode.ROW_LOAD,
            Opcode.ROW_STORE,
            Opcode.ROW_MAX,
            Opcode.ROW_MUL,
            Opcode.ROW_SCALE,
            Opcode.ROW_RECIPROCAL,
        )
        register = int(rng.integers(ROW_REGISTERS))
        if opcode is Opcode.ROW_LOAD:
            maps = sorted(known.map_words)
            self._row_load(register, int(rng.choice(maps if maps and rng.random() < 0.5 else sorted(known.lt))))
            return
        row_a, row_b = (int(rng.choice(sorted(known.rows))) for _ in "ab")
        if opcode is Opcode.ROW_STORE:
            d = int(rng.integers(self.chip.pe.xm_words))
            self._add(opcode, Unit.VECTOR, {"d": d}, set(), {("XM", d)}, row_a=row_a)
            known.xm.add(d)
            return
        fields = {"row": register, "row_a": row_a}
        if opcode in (Opcode.ROW_MAX, Opcode.ROW_MUL):
            fields["row_b"] = row_b
        self._add(opcode, Unit.VECTOR, {}, set(), set(), **fields)
        self._row_written(register)

    # Out, host, control --------------------------------------------------------------------------------------

    def _random_store(self) -> None:
        found = self._run_of(self._known.xm, 24)
        if found:
            self._store(*found)

    def _send_everything(self) -> None:
        """All rows that hold a value, through XM."""
        known, size = self._known, self.chip.pe.xm_words
        for register in sorted(known.rows):
            self._add(Opcode.ROW_STORE, Unit.VECTOR, {"d": register}, set(), {("XM", register)}, row_a=register)
            self._store(register, 1)
        for space, places in ((VectorSource.RT, known.rt), (VectorSource.VT, known.vt), (VectorSource.LT, known.lt)):
            left = set(places)
            while left:
                a, n = min(left), 1
                while n < size and a + n in left:
                    n += 1
                reads, writes = {(space.name, a + i) for i in range(n)}, {("XM", i) for i in range(n)}
                values = {"d": 0, "a": a, "n": n}
                self._add(Opcode.MOVE, Unit.VECTOR, values, reads, writes, a_space=space, d_space=VectorTarget.XM)
                self._store(0, n)
                left -= {a + i for i in range(n)}

    def _store(self, a: int, n: int) -> None:
        self._add(Opcode.STORE, Unit.STORE, {"a": a, "n": n}, {("XM", a + i) for i in range(n)}, set())

    def _host(self) -> None:
        values = {slot: int(self._rng.integers(0, 1000)) for slot in "abd"}
        self._add(Opcode.HOST, Unit.HOST, values, set(), set())

    def _random_control(self) -> None:
        kind = self._rng.integers(9)
        if kind == 0:
            self._schedule.wait()
        elif kind == 1:
            self._schedule.give_credit(self._pick(*[unit for unit in Unit if unit is not Unit.SEQUENCER]))
        elif kind == 2:
            self._nested_loops(int(self._rng.integers(1, 5)))
        elif kind == 3:
            self._loop_of_commands()
        elif kind == 4:
            self._branch()
        elif kind == 5:
            self._describe()
        elif kind == 6:
            register = int(self._rng.integers(1, 10))
            a, b = (int(x) for x in self._rng.integers(0, 300, 2))
            operands = self._operands({"a": a, "b": b})
            self._schedule.control(Opcode.ADD_REGISTER, operands, register=register)
            self._registers[register] = a + b
        elif kind == 7:
            self._end_kernel()
            self._begin_kernel()
        else:
            self._events()

    def _events(self) -> None:
        a, b = (int(x) for x in self._rng.integers(0, 100, 2))
        if self._rng.random() < 0.5:
            self._schedule.control(Opcode.MARK, {"a": self._operand(a)})
        else:
            self._schedule.control(Opcode.COUNT, {"a": self._operand(a), "b": self._operand(b)})

    def _nested_loops(self, depth: int) -> None:
        """Loops of the sequencer's own commands, the innermost maybe skipped."""
        entries = self._schedule.entries
        loops = []
        self._set(_SCRATCH, 0)
        for level in range(depth):
            count = int(self._rng.integers(0 if level == depth - 1 else 1, 4))
            loops.append(self._schedule.control(Opcode.LOOP, {"n": Operand(0, count)}))
            increment = {"a": Operand(_SCRATCH, 0), "b": Operand(0, level + 1)}
            self._schedule.control(Opcode.ADD_REGISTER, increment, register=_SCRATCH)
        self._schedule.control(Opcode.MARK, {"a": Operand(_SCRATCH, 0)})
        for loop in reversed(loops):
            self._schedule.control(Opcode.NEXT)
            loop.operands["b"] = Operand(0, len(entries))
        self._registers.pop(_SCRATCH, None)

    def _loop_of_commands(self) -> None:
        """Some commands between two WAITs, several times; the links bring their words as often."""
        self._schedule.wait()
        if self._schedule.pending_credit:
            return
        # The body may be repeated since it leaves at least what it found, and changes no register.
        times = int(self._rng.integers(1, 4))
        registers, self._registers = self._registers, {}
        loop = self._schedule.control(Opcode.LOOP, {"n": Operand(0, times)})
        streamed, gathered = len(self._stream), len(self._gather)
        for _ in range(int(self._rng.integers(1, 5))):
            self._pick(self._random_hb_load, self._random_stream_load, self._random_refill, self._random_gather)()
            self._pick(self._random_copy, self._random_store, self._host, self._random_hb_load)()
        self._schedule.wait()
        self._schedule.control(Opcode.NEXT)
        loop.operands["b"] = Operand(0, len(self._schedule.entries))
        self._stream += self._stream[streamed:] * (times - 1)
        self._gather += self._gather[gathered:] * (times - 1)
        self._registers = registers

    def _branch(self) -> None:
        """Over an instruction that would mark what must not be seen, or not."""
        taken = self._rng.random() < 0.5
        branch = self._schedule.control(Opcode.BRANCH, {"a": self._operand(0 if taken else 7)})
        self._schedule.control(Opcode.MARK, {"a": Operand(0, 999)})
        branch.operands["b"] = Operand(0, len(self._schedule.entries))

    def _describe(self) -> None:
        if len(self._descriptors) == self.chip.pe.descriptors:
            return
        register, value = int(self._rng.integers(1, 10)), int(self._rng.integers(0, 400))
        self._schedule.control(Opcode.DESCRIBE, {"a": self._operand(len(self._descriptors))}, register=register)
        self._descriptors.append(value | DESCRIPTOR_VALID)
        self._registers[register] = value


def random_program(chip: ChipParams, seed: int, **options) -> PeProgram:
    """A random legal program for ``chip``; options of `Generator`."""
    return Generator(chip, seed, **options).program()
