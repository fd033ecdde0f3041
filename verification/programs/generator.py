"""Random legal programs of the PE: every command, mode and memory, free of races, with late links and full queues.

The draft knows which places hold a value, so that nothing is read that was never written, and leaves ordering to
`verification.programs.schedule`. What a program may not do is what docs/pe.md forbids; what none can reach is listed
with its reason in `verification.programs.coverage`.
"""

import numpy as np

from hw.isa.encoding import Opcode, Unit, VectorSource, VectorTarget
from hw.isa.program import PeProgram
from hw.params import ChipParams
from verification.programs.draft import HB_COLUMNS, Draft
from verification.programs.random_array import ArrayCommands
from verification.programs.random_control import Control
from verification.programs.random_transfers import Transfers
from verification.programs.random_vector import VectorCommands


def random_program(
    chip: ChipParams, seed: int, *, commands: int = 40, lateness: str = "light", show: bool = False
) -> PeProgram:
    """A random legal program for ``chip``; the same in every process for the same arguments.

    Parameters
    ----------
    commands : int
        How often something random is appended; bursts, loops and control make the program longer.
    lateness : str
        none, light or heavy: how late link words are.
    show : bool
        At the end send everything in RT, VT, LT and the row registers out, where memories cannot be looked into.
    """
    draft = Draft(chip, np.random.default_rng([seed, len(lateness)]), lateness)
    transfers = Transfers(draft)
    array, vector = ArrayCommands(draft), VectorCommands(draft, transfers)
    control = Control(draft, transfers, vector)
    _prologue(draft, transfers, array, vector)
    choices = {
        transfers.random_hb_load: 5,
        transfers.random_stream_load: 4,
        transfers.random_refill: 4,
        transfers.random_gather: 5,
        array.random_matmul: 9,
        vector.random_binary: 12,
        vector.random_copy: 5,
        vector.random_quantize: 7,
        vector.random_absmax: 5,
        vector.random_row_command: 6,
        transfers.random_store: 5,
        transfers.random_host: 2,
        control.random_control: 6,
    }
    weights = np.array(list(choices.values()), dtype=float)
    for _ in range(commands):
        make = list(choices)[draft.rng.choice(len(choices), p=weights / weights.sum())]
        burst = make != control.random_control and draft.rng.random() < 0.08
        for _ in range(2 * chip.pe.queue_depth if burst else 1):
            make()
    if show:
        _send_everything(draft, transfers)
    draft.end_kernel()
    return draft.program()


def _prologue(draft: Draft, transfers: Transfers, array: ArrayCommands, vector: VectorCommands) -> None:
    """Something in every memory, so that any command can follow."""
    pe = draft.chip.pe
    hb_words = min(pe.wh_words, 40)
    transfers.hb_load(0, int(draft.rng.integers(0, HB_COLUMNS - hb_words + 1)), hb_words)
    transfers.stream_load(0, min(pe.wl_words, 40))
    transfers.gather_al(0, 3 * draft.words_per_group)
    transfers.gather_lt(0, 8)
    transfers.gather_map(8)
    for register in (0, 1):
        vector.row_load(register, register)
    vector.row_load(2, 8)
    array.matmul(first=1, last=1)


def _send_everything(draft: Draft, transfers: Transfers) -> None:
    """All rows that hold a value, through XM."""
    known, size = draft.known, draft.chip.pe.xm_words
    for register in sorted(known.rows):
        draft.add(Opcode.ROW_STORE, Unit.VECTOR, {"d": register}, set(), {("XM", register)}, row_a=register)
        transfers.store(register, 1)
    for space in (VectorSource.RT, VectorSource.VT, VectorSource.LT):
        left = set(draft.rows_of(space))
        while left:
            a, n = min(left), 1
            while n < size and a + n in left:
                n += 1
            reads, writes = {(space.name, a + i) for i in range(n)}, {("XM", i) for i in range(n)}
            values = {"d": 0, "a": a, "n": n}
            draft.add(Opcode.MOVE, Unit.VECTOR, values, reads, writes, a_space=space, d_space=VectorTarget.XM)
            transfers.store(0, n)
            left -= {a + i for i in range(n)}
