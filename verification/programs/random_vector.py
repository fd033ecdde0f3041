"""Random commands of the vector unit: every operation, operand memory and target, broadcast and indexed forms."""

import numpy as np

from hw.isa.encoding import Opcode, Unit, VectorSource, VectorTarget
from hw.params import ROW_REGISTERS
from verification.programs.draft import Commands, Draft
from verification.programs.random_transfers import Transfers

_BINARY = (Opcode.ADD, Opcode.MUL, Opcode.MAX, Opcode.MIN)


class VectorCommands(Commands):
    """Vector commands on rows that hold a value; where no run of rows is long enough, ``transfers`` brings one."""

    def __init__(self, draft: Draft, transfers: Transfers):
        super().__init__(draft)
        self._transfers = transfers

    def _source(self, most: int, spaces=(VectorSource.RT, VectorSource.VT, VectorSource.LT)):
        """(space, first, count) of rows that hold values."""
        space = self._draft.pick(*spaces)
        found = self._draft.run_of(self._draft.rows_of(space), most)
        if found is None:
            space, found = VectorSource.LT, self._draft.run_of(self._known.lt, most)
        return space, *found

    def _target(self, n: int, source: VectorSource, a: int, avoid: set[int]) -> tuple[VectorTarget, int]:
        """(memory, first row) for n rows: the rows read, or rows that no later row of the command reads."""
        xm = VectorTarget.XM, int(self._rng.integers(0, self._chip.pe.xm_words - n + 1))
        if self._rng.random() < 0.35:
            return xm
        if source == VectorSource.VT and not avoid and self._rng.random() < 0.3:
            return VectorTarget.VT, a
        if source == VectorSource.VT:
            avoid = avoid | {a + i for i in range(n)}
        for _ in range(20):
            d = int(self._rng.integers(0, min(self._chip.pe.vt_rows, 96) - n + 1))
            if not avoid & {d + i for i in range(n)}:
                return VectorTarget.VT, d
        return xm  # operands and result do not all fit into the part of VT that is used

    def _wrote(self, target: VectorTarget, places: set[int]) -> None:
        (self._known.vt if target == VectorTarget.VT else self._known.xm).update(places)

    def random_binary(self) -> None:
        """ADD, MUL, MAX or MIN: rows with rows, one row, a row register or an immediate; a quarter through a map."""
        rows = self._chip.array.rows
        if self._rng.random() < 0.25 and self._known.maps:
            self._indexed()
            return
        a_space, a, n = self._source(2 * rows + 3)
        b_space = self._draft.pick(*VectorSource)
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
        n = int(self._rng.integers(1, self._chip.array.rows + 1))
        pe = self._chip.pe
        sizes = {VectorSource.RT: pe.rt_rows, VectorSource.VT: pe.vt_rows, VectorSource.LT: pe.lt_rows}
        fitting = []
        for space, size in sizes.items():
            known = self._draft.rows_of(space)
            bases = [a for a in range(min(size, 128)) if all((a + x) % size in known for x in offsets[:n])]
            fitting += [(space, int(self._rng.choice(bases)), size)] if bases else []
        if not fitting:
            return
        a_space, a, size = fitting[self._rng.integers(len(fitting))]
        d_space = self._draft.pick(VectorTarget.VT, VectorTarget.XM)
        target_size = self._chip.pe.vt_rows if d_space == VectorTarget.VT else self._chip.pe.xm_words
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
        self._draft.add(self._draft.pick(*_BINARY), Unit.VECTOR, values, reads, writes, **spaces, **fields)
        self._wrote(d_space, places)

    def random_copy(self) -> None:
        """MOVE or SIGMOID."""
        opcode = self._draft.pick(Opcode.MOVE, Opcode.SIGMOID)
        a_space, a, n = self._source(2 * self._chip.array.rows + 3)
        d_space, d = self._target(n, a_space, a, set())
        reads, writes = {(a_space.name, a + i) for i in range(n)}, {(d_space.name, d + i) for i in range(n)}
        self._draft.add(opcode, Unit.VECTOR, {"d": d, "a": a, "n": n}, reads, writes, a_space=a_space, d_space=d_space)
        self._wrote(d_space, {d + i for i in range(n)})

    def random_quantize(self) -> None:
        """Whole group words, to AV or to XM, so that what is written can be read."""
        rows, pe = self._chip.array.rows, self._chip.pe
        whole = rows * self._draft.pieces
        candidates = [s for s in VectorSource if s <= VectorSource.LT]
        fitting = [(s, self._draft.run_of(self._draft.rows_of(s), whole, whole)) for s in candidates]
        fitting = [(s, found[0]) for s, found in fitting if found]
        if not fitting or self._rng.random() < 0.2:
            self._fill_rows(whole)
            return
        a_space, a = fitting[self._rng.integers(len(fitting))]
        d_space = self._draft.pick(VectorTarget.AV, VectorTarget.XM)
        groups = min(pe.av_groups, 6) if d_space == VectorTarget.AV else pe.xm_words // self._draft.words_per_group
        group = int(self._rng.integers(0, groups))
        if d_space == VectorTarget.AV:
            writes = {("AV", group)}
            self._known.av.add(group)
        else:
            words = {group * self._draft.words_per_group + i for i in range(self._draft.words_per_group)}
            writes = {("XM", word) for word in words}
            self._known.xm |= words
        values = {"d": group * self._draft.pieces, "a": a, "n": whole}
        register = int(self._rng.choice(sorted(self._known.rows)))
        reads = {(a_space.name, a + i) for i in range(whole)}
        self._draft.add(
            Opcode.QUANTIZE, Unit.VECTOR, values, reads, writes, a_space=a_space, d_space=d_space, row_b=register
        )

    def _fill_rows(self, count: int) -> None:
        """``count`` consecutive rows of LT, and a copy of them in VT."""
        self._transfers.gather_lt(0, count)
        d = int(self._rng.integers(0, 128 - count))
        reads, writes = {("LT", i) for i in range(count)}, {("VT", d + i) for i in range(count)}
        values = {"d": d, "a": 0, "n": count}
        self._draft.add(
            Opcode.MOVE, Unit.VECTOR, values, reads, writes, a_space=VectorSource.LT, d_space=VectorTarget.VT
        )
        self._known.vt |= {d + i for i in range(count)}

    def random_absmax(self) -> None:
        """ROW_ABSMAX, begun or continued."""
        rows = self._chip.array.rows
        first = int(self._rng.random() < 0.5)
        a_space, a, n = self._source(rows if first else 2 * rows + 3)
        whole = first and n == rows  # a register that held nothing is then known
        register = int(self._rng.integers(ROW_REGISTERS)) if whole else int(self._rng.choice(sorted(self._known.rows)))
        reads = {(a_space.name, a + i) for i in range(n)}
        self._draft.add(
            Opcode.ROW_ABSMAX, Unit.VECTOR, {"a": a, "n": n}, reads, set(), a_space=a_space, row=register, first=first
        )
        self._row_written(register)

    def _row_written(self, register: int) -> None:
        self._known.rows.add(register)
        self._known.maps.pop(register, None)

    def row_load(self, register: int, a: int) -> None:
        """A row register from LT row ``a``; where the row holds a map, the register does too."""
        self._draft.add(Opcode.ROW_LOAD, Unit.VECTOR, {"a": a}, {("LT", a)}, set(), row=register)
        self._row_written(register)
        if a in self._known.map_words:
            self._known.maps[register] = self._known.map_words[a]

    def random_row_command(self) -> None:
        """One of the commands on row registers alone, or a load or store of one."""
        rng, known = self._rng, self._known
        opcode = self._draft.pick(
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
            self.row_load(register, int(rng.choice(maps if maps and rng.random() < 0.5 else sorted(known.lt))))
            return
        row_a, row_b = (int(rng.choice(sorted(known.rows))) for _ in "ab")
        if opcode is Opcode.ROW_STORE:
            d = int(rng.integers(self._chip.pe.xm_words))
            self._draft.add(opcode, Unit.VECTOR, {"d": d}, set(), {("XM", d)}, row_a=row_a)
            known.xm.add(d)
            return
        fields = {"row": register, "row_a": row_a}
        if opcode in (Opcode.ROW_MAX, Opcode.ROW_MUL):
            fields["row_b"] = row_b
        self._draft.add(opcode, Unit.VECTOR, {}, set(), set(), **fields)
        self._row_written(register)
