"""Text of one output tile of a projection: load, multiply, accumulate, for every mode and tier.

Weights pass through two halves of WH and WL in turn, results through two slots of RT, so that loading, computing and
the vector unit overlap. A tile's first weights are loaded only when there is a slot for its results.

    hb, full       MSB codes and scales from HB, LSB codes over the stream link, scales of the MSB tile for both
    bank, full     both from HB, K block by K block: scales and MSB codes, then LSB codes
    bank, draft    the MSB slice of that; the LSB codes are passed over
    stream, full   both over the link: scales and MSB codes, then LSB codes
    hb or stream, draft or MXFP4: one slice

Chains of the LSB slice have numbers from M on; blocks ascend, so each chain adds its groups in ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw.errors import UserError
from hw.isa import WeightMode
from hw.params import ChipParams

TIERS = ("hb", "bank", "stream")
MODES = ("full", "draft", "mxfp4")
_WEIGHT_MODES = {
    "full": (WeightMode.MSB, WeightMode.LSB),
    "draft": (WeightMode.DRAFT,),
    "mxfp4": (WeightMode.MXFP4,),
}

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
.semaphore al_free 11          ; half of AL, in kernels whose K does not fit AL
.semaphore al_full_hb 12       ; its activations are there; whoever loads the first weights for them waits
.semaphore al_full_stream 13
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
    wait !al_free
    wait !al_free
    return
"""


def most_blocks(chip: ChipParams, slices: int) -> int:
    """Token blocks that one pass over a tile's weights can serve: chains, and two slots of results in RT."""
    return min(chip.array.chains // slices, chip.pe.rt_rows // (2 * chip.array.rows * slices))


def most_groups(chip: ChipParams, tier: str, slices: int) -> int:
    """Groups of the largest K block, an even number: with all that it needs it fits half a weight memory."""
    half_words = min(chip.pe.wh_words, chip.pe.wl_words) // 2
    one_slice = tier == "hb" or (tier == "stream" and slices == 1)
    return max(2, 2 * half_words // (9 if one_slice else 17) // 2 * 2)


def block_groups(groups: int, most: int) -> int:
    """Groups of a K block, even and at most ``most``, where K is cut into the fewest blocks of nearly one size.

    A large block and a small one would leave one half of a weight memory waiting for the other.
    """
    blocks = -(-groups // most)
    return 2 * -(-groups // (2 * blocks))


@dataclass(frozen=True)
class TileKernel:
    """One way to compute an output tile.

    mode, tier    of `MODES`, `TIERS`
    blocks        token blocks M, each of R tokens
    single        K is one block
    space         AL or AV, where the activations are
    most_groups   a smaller limit on a K block than the weight memories'
    """

    chip: ChipParams
    mode: str
    tier: str
    blocks: int = 1
    single: bool = False
    space: str = "AL"
    most_groups: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.tier not in TIERS:
            raise UserError(
                f"kernel must have a mode of {MODES} and a tier of {TIERS}, not {self.mode!r}, {self.tier!r}"
            )
        chip, most = self.chip, most_blocks(self.chip, self.slices)
        if self.tier == "bank" and self.mode == "mxfp4":
            raise UserError("kernel of MXFP4 weights, which have one slice, must have tier hb or stream, not bank")
        if not 1 <= self.blocks <= most:
            raise UserError(f"token blocks must be 1 to {most} (chip {chip.name}, {self.mode}), not {self.blocks}")

    @property
    def name(self) -> str:
        """Part of a kernel's name."""
        own = "_own" if self.space == "AV" else ""
        return f"{self.tier}_{self.mode}_{self.k_block}" + ("_single" if self.single else "") + own

    @property
    def slices(self) -> int:
        return 2 if self.mode == "full" else 1

    @property
    def half_words(self) -> int:
        return min(self.chip.pe.wh_words, self.chip.pe.wl_words) // 2

    @property
    def k_block(self) -> int:
        """Groups of a K block: even, and a block with all that it needs fits half a weight memory."""
        most = most_groups(self.chip, self.tier, self.slices)
        return max(2, min(most, self.most_groups or most) // 2 * 2)

    def tiles_at_once(self, tiles: int) -> int:
        """Product tiles (gate and up) whose chains and results fit side by side, a divisor of ``tiles``."""
        array, pe = self.chip.array, self.chip.pe
        most = min(array.chains, pe.rt_rows // array.rows) // (2 * self.slices)
        return max(n for n in range(1, most + 1) if tiles % n == 0)

    @property
    def slot_rows(self) -> int:
        """RT rows of a slot: R rows of every token block and slice, MSB first."""
        return self.slices * self.blocks * self.chip.array.rows

    @property
    def stored(self) -> str:
        """What the tier's HB holds: a draft reads what the pass in full put there."""
        return self.tier + ("_mxfp4" if self.mode == "mxfp4" else "")

    @property
    def loader(self) -> str:
        """The unit that loads a tile's first weights: hb or stream."""
        return "stream" if self.tier == "stream" else "hb"

    @property
    def rt_free(self) -> str:
        return f"rt_free_{self.loader}"

    def setup(self) -> str:
        """Start of a kernel: all units are idle, all buffers free."""
        describe = "    describe column, DM[column]\n" if self.loader == "hb" else ""
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

    @staticmethod
    def swap(name: str) -> str:
        """Exchange registers ``name`` and other_``name``."""
        return f"        add temp, {name}, 0\n        add {name}, other_{name}, 0\n        add other_{name}, temp, 0\n"

    def _block(self, *, first: bool, last: bool) -> str:
        text = self.load_and_multiply(
            first=first,
            last=last,
            chain=0,
            target="slot+",
            load_waits=f" ?{self.rt_free}" if first else "",
            signals=" !rt_full" if last else "",
        )
        step = "" if last else f"        add act, act, {self.k_block * self.blocks}\n"
        return text + step

    def load_and_multiply(
        self, *, first: bool, last: bool, chain: int, target: str, load_waits: str, signals: str
    ) -> str:
        """Load one K block of a tile and add it to its chains.

        Parameters
        ----------
        chain : of the first token block and slice
        target : RT row before the offset, "slot+" or "RT row of the tile +"
        load_waits : semaphores that the first load waits for beside its buffer
        signals : of the last MATMUL beside the buffers
        """
        scale_words = self.k_block // 2
        groups, words, lsb = self.k_block, scale_words + 4 * self.k_block, 4 * self.k_block
        lsb_at = "half" if self.tier == "hb" else f"half+{words}"
        scales = "half"
        lines = []
        if last:
            groups, words, lsb, scales = "last_groups", "last_words", "last_lsb", "temp"
            lines.append("add temp, half, last_pad")
        memory = "WH" if self.loader == "hb" else "WL"
        far = "WL" if self.tier == "hb" else memory  # of the LSB slice
        at_once = self.slices == 2 and self.tier == "bank" and not last  # one LOAD for both slices of a block
        if at_once:
            lines.append(f"hb.load d=WH[half], a=column, n={words + lsb} ?wh_free{load_waits} !wh_full")
            lines.append(f"add column, column, {words}")
        elif self.loader == "hb":
            lines.append(f"hb.load d=WH[{scales}], a=column, n={words} ?wh_free{load_waits} !wh_full")
            lines.append(f"add column, column, {words}")
        else:
            lines.append(f"stream.load d=WL[{scales}], n={words} ?wl_free{load_waits} !wl_full")
        if self.slices == 2 and self.tier == "bank" and not at_once:
            lines.append(f"hb.load d=WH[{lsb_at}], a=column, n={lsb} !wh_full")
        elif self.slices == 2 and self.tier != "bank":
            lines.append(f"stream.load d=WL[{lsb_at}], n={lsb}{' ?wl_free' if self.tier == 'hb' else ''} !wl_full")
        if self.tier == "bank":
            lines.append(f"add column, column, {lsb}")
        codes = [f"{memory}[half+{scale_words}]", f"{far}[{lsb_at}]"]
        ends = (", first" if first else "") + (", last" if last else "")
        if self.slices == 1 or self.tier != "hb":
            full, free = f"{memory.lower()}_full", f"{memory.lower()}_free"
            tokens = [f" ?{full}"] * (self.slices - 1) + [f"{'' if at_once else f' ?{full}'} !{free}{signals}"]
        else:
            tokens = [f" !wh_free{signals}", " ?wh_full ?wl_full !wl_free"]
        commands = [
            f"array.matmul d=RT[{target}{i * self.blocks * self.chip.array.rows}], a={self.space}[act], w={codes[i]}, "
            f"s={memory}[{scales}], n={groups}, m={self.blocks}, mode={mode.name}, "
            f"chain={chain + i * self.blocks}{ends}{token}"
            for i, (mode, token) in enumerate(zip(_WEIGHT_MODES[self.mode], tokens, strict=True))
        ]
        # With MSB from HB the LSB slice goes first: it frees WL, then the MSB slice frees WH and gives the signals.
        lines += commands[::-1] if self.tier == "hb" else commands
        return "".join(f"        {line}\n" for line in lines) + self.swap("half")

    def merge(
        self,
        block: int,
        target: str,
        scale_row: int,
        bias: str | None,
        *,
        row: str = "slot",
        wait: str = "",
        free: str = "",
        out: str = "",
    ) -> str:
        """y = rne(rne(msb + lsb) x scale) + bias of one token block, to ``target`` (SPACE[x]).

        ``bias`` is an LT row and its semaphore clauses; ``row`` the tile's first RT row; ``wait`` and ``free`` are
        clauses of the first command and of the last one that reads RT. ``out`` is where the last command writes
        instead of ``target``, with its clauses.
        """
        rows = self.chip.array.rows
        source, lsb = (f"RT[{row}+{(block + i * self.blocks) * rows}]" for i in range(2))
        steps = []  # (operation, first operand, second operand, clauses)
        if self.slices == 2:
            steps.append(("add", source, lsb, wait + free))
            source, wait, free = target, "", ""
        steps.append(("mul", source, f"ROW[{scale_row}]", wait + free))
        if bias:
            place, _, clauses = bias.partition(" ")
            steps.append(("add", target, f"LT[{place}], broadcast", f" {clauses}"))
        place, _, clauses = out.partition(" ")
        lines = [
            f"vector.{operation} d={target}, a={a}, b={b}, n={rows}{tokens}" for operation, a, b, tokens in steps[:-1]
        ]
        operation, a, b, tokens = steps[-1]
        lines.append(f"vector.{operation} d={place or target}, a={a}, b={b}, n={rows}{tokens} {clauses}")
        return "".join(f"        {line}\n" for line in lines)

    def merge_slot(self, target: str, scale_row: int, bias: str | None, out: str = "") -> str:
        """`merge` of the only token block from the slot, which is free then; the next slot's turn."""
        wait, free = " ?rt_full", f" !{self.rt_free}"
        return self.merge(0, target, scale_row, bias, wait=wait, free=free, out=out) + self.swap("slot")
