"""Text of one output tile of a projection: load, multiply, accumulate, for every mode and tier.

Weights pass through two halves of WH and WL in turn, results through two slots of RT, so that loading, computing and
the vector unit overlap. A tile's first weights are loaded only when there is a slot for its results.

    hb, full       MSB codes and scales from HB, LSB codes over the stream link, scales of the MSB tile for both
    stream, full   both over the link: scales and MSB codes, then LSB codes
    hb or stream, draft or MXFP4: one slice

Chains of the LSB slice have numbers from M on; blocks ascend, so each chain adds its groups in ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError
from hw.isa import WeightMode
from hw.params import ChipParams

TIERS = ("hb", "stream")
MODES = ("full", "draft", "mxfp4")

SEMAPHORES = """
.semaphore wh_free 0
.semaphore wh_full 1
.semaphore wl_free 2
.semaphore wl_full 3
.semaphore rt_free_hb 4        ; a slot for results, for tiles whose first weights come from HB
.semaphore rt_free_stream 5
.semaphore rt_full 6
.semaphore lt_free 7
.semaphore lt_full 8
.semaphore xm_free 9
.semaphore xm_full 10
"""

REGISTERS = """
.register tiles r1
.register column r2            ; next HB data column; a descriptor's number at first
.register middle r3            ; K blocks between the first and the last
.register last_groups r4
.register last_words r5        ; scales and codes of the last block
.register last_lsb r6
.register last_pad r7
.register x8 r8
.register act r9               ; group word of the activations
.register x10 r10
.register half r11             ; of WH and WL, the one used now and the other
.register other_half r12
.register slot r13             ; of RT
.register other_slot r14
.register temp r15
"""

INIT = """
.kernel init                   ; every buffer is free
    wait !wh_free !wl_free
    wait !wh_free !wl_free
    wait !rt_free_hb !rt_free_stream
    wait !rt_free_hb !rt_free_stream
    wait !lt_free !xm_free
    return
"""


@dataclass(frozen=True)
class TileKernel:
    """One way to compute an output tile.

    mode, tier    of `MODES`, `TIERS`
    blocks        token blocks M, each of R tokens
    single        K is one block
    space         AL or AV, where the activations are
    """

    chip: ChipParams
    mode: str
    tier: str
    blocks: int = 1
    single: bool = False
    space: str = "AL"

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.tier not in TIERS:
            raise UserError(
                f"kernel must have a mode of {MODES} and a tier of {TIERS}, not {self.mode!r}, {self.tier!r}"
            )
        chip = self.chip
        most = min(chip.array.chains // self.slices, chip.pe.rt_rows // (2 * chip.array.rows * self.slices))
        if not 1 <= self.blocks <= most:
            raise UserError(f"token blocks must be 1 to {most} (chip {chip.name}, {self.mode}), not {self.blocks}")

    @property
    def name(self) -> str:
        """Part of a kernel's name."""
        return f"{self.tier}_{self.mode}" + ("_single" if self.single else "")

    @property
    def slices(self) -> int:
        return 2 if self.mode == "full" else 1

    @property
    def half_words(self) -> int:
        return min(self.chip.pe.wh_words, self.chip.pe.wl_words) // 2

    @property
    def k_block(self) -> int:
        """Groups of a K block: even, and a block with all that it needs fits half a weight memory."""
        half_words_a_group = 9 if self.tier == "hb" or self.slices == 1 else 17
        return max(2, 2 * self.half_words // half_words_a_group // 2 * 2)

    @property
    def slot_rows(self) -> int:
        """RT rows of a slot: R rows of every token block and slice, MSB first."""
        return self.slices * self.blocks * self.chip.array.rows

    @property
    def rt_free(self) -> str:
        return f"rt_free_{self.tier}"

    def setup(self) -> str:
        """Start of a kernel: all units are idle, all buffers free."""
        describe = "    describe column, DM[column]\n" if self.tier == "hb" else ""
        return (
            describe
            + f"""    set half, 0
    set other_half, {self.half_words}
    set slot, 0
    set other_slot, {self.slot_rows}
"""
        )

    def tile(self, label: str) -> str:
        """All K blocks of a tile; RT[slot ...] is full then."""
        start = "        set act, 0\n"
        if self.single:
            return start + self._block(first=True, last=True)
        return (
            start
            + self._block(first=True, last=False)
            + f"        loop middle, {label}_last\n"
            + self._block(first=False, last=False)
            + f"        next\n    {label}_last:\n"
            + self._block(first=False, last=True)
        )

    def next_slot(self) -> str:
        """The other slot's turn; the vector unit's commands on this one must be before."""
        return self._swap("slot")

    def _swap(self, name: str) -> str:
        return f"        add temp, {name}, 0\n        add {name}, other_{name}, 0\n        add other_{name}, temp, 0\n"

    def _block(self, *, first: bool, last: bool) -> str:
        scale_words = self.k_block // 2
        groups, words, lsb = (
            ("last_groups", "last_words", "last_lsb")
            if last
            else (self.k_block, scale_words + 4 * self.k_block, 4 * self.k_block)
        )
        scales = "temp" if last else "half"
        memory = "WH" if self.tier == "hb" else "WL"
        wait_slot = f" ?{self.rt_free}" if first else ""
        lines = ["add temp, half, last_pad"] if last else []
        if self.tier == "hb":
            lines.append(f"hb.load d=WH[{scales}], a=column, n={words} ?wh_free{wait_slot} !wh_full")
            lines.append(f"add column, column, {words}")
        else:
            lines.append(f"stream.load d=WL[{scales}], n={words} ?wl_free{wait_slot} !wl_full")
        lsb_at = "half" if self.tier == "hb" else f"half+{scale_words + 4 * self.k_block}"
        if self.slices == 2:
            lines.append(f"stream.load d=WL[{lsb_at}], n={lsb}{' ?wl_free' if self.tier == 'hb' else ''} !wl_full")
        modes = {"full": (WeightMode.MSB, WeightMode.LSB), "draft": (WeightMode.DRAFT,), "mxfp4": (WeightMode.MXFP4,)}
        codes = [f"{memory}[half+{scale_words}]", f"WL[{lsb_at}]"]
        ends = (", first" if first else "") + (", last" if last else "")
        full = " !rt_full" if last else ""
        if self.slices == 1:
            tokens = [f" ?{memory.lower()}_full !{memory.lower()}_free{full}"]
        elif self.tier == "stream":
            tokens = [" ?wl_full", f" ?wl_full !wl_free{full}"]
        else:
            tokens = [f" !wh_free{full}", " ?wh_full ?wl_full !wl_free"]
        commands = [
            f"array.matmul d=RT[slot+{i * self.blocks * self.chip.array.rows}], a={self.space}[act], w={codes[i]}, "
            f"s={memory}[{scales}], n={groups}, m={self.blocks}, mode={mode.name}, chain={i * self.blocks}{ends}{token}"
            for i, (mode, token) in enumerate(zip(modes[self.mode], tokens, strict=True))
        ]
        # With MSB from HB the LSB slice goes first: it frees WL, then the MSB slice frees WH and fills the slot.
        lines += commands[::-1] if self.tier == "hb" else commands
        if not last:
            lines.append(f"add act, act, {self.k_block * self.blocks}")
        return "".join(f"        {line}\n" for line in lines) + self._swap("half")

    def merge(self, block: int, target: str, scale_row: int, bias: str | None) -> str:
        """y = rne(rne(msb + lsb) x scale) + bias of one token block, to ``target`` (SPACE[x]); the slot is free then.

        ``bias`` is an LT row and its semaphore clauses.
        """
        rows = self.chip.array.rows
        at = block * rows
        wait = " ?rt_full" if block == 0 else ""
        free = f" !{self.rt_free}" if block == self.blocks - 1 else ""
        lines = []
        source = f"RT[slot+{at}]"
        if self.slices == 2:
            lines.append(
                f"vector.add d={target}, a={source}, b=RT[slot+{at + self.blocks * rows}], n={rows}{wait}{free}"
            )
            source, wait, free = target, "", ""
        lines.append(f"vector.mul d={target}, a={source}, b=ROW[{scale_row}], n={rows}{wait}{free}")
        if bias:
            place, _, clauses = bias.partition(" ")
            lines.append(f"vector.add d={target}, a={target}, b=LT[{place}], broadcast, n={rows} {clauses}")
        return "".join(f"        {line}\n" for line in lines)
