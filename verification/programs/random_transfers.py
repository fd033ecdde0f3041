"""Random commands that move words: HB and link into the memories, XM out, and requests to the host."""

from hw.isa.encoding import GatherSpace, Opcode, Unit
from verification.programs.draft import HB_COLUMNS, Commands


class Transfers(Commands):
    """HB LOAD, STREAM LOAD and REFILL, GATHER LOAD, STORE and HOST."""

    def hb_load(self, d: int, a: int, n: int) -> None:
        """HB columns ``a``... to WH words ``d``..., ``n`` of them."""
        writes = {("WH", d + i) for i in range(n)}
        self._draft.add(Opcode.HB_LOAD, Unit.HB, {"d": d, "a": a, "n": n}, {("HB", a + i) for i in range(n)}, writes)
        self._known.wh |= {d + i for i in range(n)}

    def random_hb_load(self) -> None:
        """Any columns that hold a value, anywhere in WH."""
        a, n = self._draft.run_of(self._known.columns, min(40, self._chip.pe.wh_words))
        self.hb_load(int(self._rng.integers(0, self._chip.pe.wh_words - n + 1)), a, n)

    def stream_load(self, d: int, n: int) -> None:
        """``n`` new words of the stream link to WL words ``d``...."""
        self._draft.stream += [self._draft.word() for _ in range(n)]
        self._draft.add(Opcode.STREAM_LOAD, Unit.STREAM, {"d": d, "n": n}, set(), {("WL", d + i) for i in range(n)})
        self._known.wl |= {d + i for i in range(n)}

    def random_stream_load(self) -> None:
        """Up to 24 words, anywhere in WL."""
        n = int(self._rng.integers(1, 25))
        self.stream_load(int(self._rng.integers(0, self._chip.pe.wl_words - n + 1)), n)

    def random_refill(self) -> None:
        """Up to 24 new words of the stream link to HB."""
        n = int(self._rng.integers(1, 25))
        d = int(self._rng.integers(0, HB_COLUMNS))
        self._draft.stream += [self._draft.word() for _ in range(n)]
        self._draft.add(Opcode.STREAM_REFILL, Unit.STREAM, {"d": d, "n": n}, set(), {("HB", d + i) for i in range(n)})
        self._known.columns |= {d + i for i in range(n)}

    def gather_al(self, d: int, n: int) -> None:
        """``n`` new words of the gather link to AL, from word ``d`` on."""
        self._draft.gather += [self._draft.word() for _ in range(n)]
        groups = {("AL", (d + i) // self._draft.words_per_group) for i in range(n)}
        self._draft.add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": n}, set(), groups, space=GatherSpace.AL)
        self._known.al |= {d + i for i in range(n)}

    def gather_lt(self, d: int, n: int) -> None:
        """``n`` new FP32 rows of the gather link to LT rows ``d``...."""
        self._draft.gather += [self._draft.row_word() for _ in range(n)]
        writes = {("LT", d + i) for i in range(n)}
        self._draft.add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": n}, set(), writes, space=GatherSpace.LT)
        self._known.lt |= {d + i for i in range(n)}
        for i in range(n):
            self._known.map_words.pop(d + i, None)

    def gather_map(self, d: int) -> None:
        """An LT row whose first R values are distinct small integers."""
        rows = self._chip.array.rows
        values = [int(x) for x in self._rng.permutation(4 * rows)[:rows]]
        self._draft.gather.append(sum(value << 32 * i for i, value in enumerate(values)))
        self._draft.add(Opcode.GATHER_LOAD, Unit.GATHER, {"d": d, "n": 1}, set(), {("LT", d)}, space=GatherSpace.LT)
        self._known.lt.add(d)
        self._known.map_words[d] = values

    def random_gather(self) -> None:
        """To AL, to LT, or a map to LT."""
        kind = self._rng.integers(3)
        if kind == 0:
            n = int(self._rng.integers(1, 3 * self._draft.words_per_group))
            most = min(self._chip.pe.al_groups, 8) * self._draft.words_per_group
            self.gather_al(int(self._rng.integers(0, most - n + 1)), n)
        elif kind == 1:
            n = int(self._rng.integers(1, 9))
            self.gather_lt(int(self._rng.integers(0, self._chip.pe.lt_rows - n + 1)), n)
        else:
            self.gather_map(int(self._rng.integers(0, self._chip.pe.lt_rows)))

    def random_store(self) -> None:
        """Words of XM that hold a value."""
        found = self._draft.run_of(self._known.xm, 24)
        if found:
            self.store(*found)

    def store(self, a: int, n: int) -> None:
        """``n`` words of XM from ``a`` on go out."""
        self._draft.add(Opcode.STORE, Unit.STORE, {"a": a, "n": n}, {("XM", a + i) for i in range(n)}, set())

    def random_host(self) -> None:
        """A request to the host with three numbers."""
        values = {slot: int(self._rng.integers(0, 1000)) for slot in "abd"}
        self._draft.add(Opcode.HOST, Unit.HOST, values, set(), set())
