"""Random MATMULs: every mode, every memory for activations, codes and scales, chains that begin, go on and end."""

from hw.isa import WeightMode
from hw.isa.encoding import ActivationSpace, Opcode, Unit, WeightSpace
from verification.programs.draft import Commands


class ArrayCommands(Commands):
    """MATMUL over group words and weights that hold a value."""

    def random_matmul(self) -> None:
        """A MATMUL that begins or continues its chains, and ends them or not."""
        self.matmul(first=int(self._rng.random() < 0.6), last=int(self._rng.random() < 0.6))

    def matmul(self, first: int, last: int) -> None:
        """Operands that hold values, as many groups as follow each other; a chain not open must begin."""
        array, pe, known = self._chip.array, self._chip.pe, self._known
        a_space = self._draft.pick(*ActivationSpace)
        w_space, s_space = self._draft.pick(*WeightSpace), self._draft.pick(*WeightSpace)
        per = self._draft.words_per_group
        al = {p // per for p in known.al if p % per == 0 and all(p + i in known.al for i in range(per))}
        groups = known.av if a_space == ActivationSpace.AV else al
        if not groups:
            a_space, groups = ActivationSpace.AL, al
        m = int(self._rng.integers(1, min(array.chains, pe.rt_rows // array.rows) + 1))
        found = self._draft.run_of(groups, 6)
        m = min(m, found[1])
        n = min(found[1] // m, 6)
        codes = self._draft.run_of(known.wh if w_space == WeightSpace.WH else known.wl, 4 * n, 4)
        if codes is None:
            return
        n = min(n, codes[1] // 4)
        scales = self._draft.run_of(known.wh if s_space == WeightSpace.WH else known.wl, (n + 1) // 2)
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
        self._draft.add(
            Opcode.MATMUL,
            Unit.ARRAY,
            {"d": d, "a": found[0], "b": codes[0], "s": scales[0], "n": n, "m": m},
            reads,
            writes,
            mode=self._draft.pick(*WeightMode),
            chain=chain,
            first=first,
            last=last,
            a_space=a_space,
            w_space=w_space,
            s_space=s_space,
        )
