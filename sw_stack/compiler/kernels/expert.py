"""Text of the kernels of an expert's feed-forward network: gate and up, activation, requantise, down, combination.

    clear           accumulators of all tokens = +0
    gate_up_wide_*  the same where K does not fit AL
    gate_up_*       gather activations and scalars; per tile: gate, up, SiLU x up (or clamped), row maximum
    requantize      scale and reciprocal of the row maximum; INT8 into AV
    exchange        the same with other PEs: maxima and INT8 go out and come in; the whole row lands in AL
    down_*          per tile: down, x expert weight, added to the accumulators at the rows of the map
    down_send_*     of a dense or shared network, which every token uses: per tile: down, sent
    finish          accumulators + residual, sent
    send            accumulators, sent

One expert's kernels run in this order, experts in ascending id, so that every token's sum is in that order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hw.errors import UserError
from hw.params import ChipParams
from sw_stack.compiler.kernels.projection import TileKernel

# Row registers.
INPUT_SCALE, MAXIMUM, INNER_SCALE, RECIPROCAL, WEIGHT, MAP, PEER = range(7)
# LT rows: scalars of an expert in the order in which they arrive, biases of a tile, a tile of residuals.
LT_SCALARS, LT_SCALAR_ROWS = 0, 4
LT_BIAS = 4
LT_TILE = 6

TOKEN_BLOCKS = 1
"""Token blocks per pass over an expert's weights; an expert with more tokens comes several times."""

_SWAP_ACT = "        add temp, act, 0\n        add act, x10, 0\n        add x10, temp, 0\n"


@dataclass(frozen=True)
class ExpertLayout:
    """Where an expert's values are in VT, in rows.

    A gate tile and an up tile; then the products, a tile of R rows each; then the accumulators: for every tile of the
    hidden size one row per token.

    clamp  (limit, alpha) of the clamped SwiGLU, None for SiLU x up
    """

    chip: ChipParams
    product_tiles: int
    hidden_tiles: int
    token_rows: int
    biased: bool
    clamp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        end = self.accumulators + self.hidden_tiles * self.token_rows
        if end > self.chip.pe.vt_rows:
            raise UserError(
                f"expert must fit {self.chip.pe.vt_rows} rows of VT (chip {self.chip.name}), not {end}: "
                "fewer outputs or tokens per PE"
            )
        if self.chip.pe.lt_rows < LT_TILE + self.rows or self.chip.pe.xm_words < self.rows:
            raise UserError(
                f"chip {self.chip.name} must have {LT_TILE + self.rows} rows of LT, {self.rows} words of XM"
            )

    @property
    def rows(self) -> int:
        return self.chip.array.rows

    @property
    def products(self) -> int:
        return 2 * self.rows

    @property
    def accumulators(self) -> int:
        return self.products + self.product_tiles * self.rows

    def clear(self) -> str:
        """r1: tiles of R rows to clear."""
        return f"""
.kernel clear
    wait
    set x10, {self.accumulators}
    gather.load LT[{LT_TILE}], n={self.rows} ?lt_free !lt_full
    vector.move d=VT[x10], a=LT[{LT_TILE}], n={self.rows} ?lt_full
    add tiles, tiles, -1
    add x10, x10, {self.rows}
    loop tiles, cleared
        vector.move d=VT[x10], a=LT[{LT_TILE}], n={self.rows}
        add x10, x10, {self.rows}
    next
cleared:
    vector.move d=VT[0], a=LT[{LT_TILE}], n={self.rows} !lt_free
    return
"""

    def gate_up(self, kernel: TileKernel) -> str:
        """r1 tiles, r2 descriptor, r3 ... r7 K blocks, r8 words of AL, r9 expert id, r10 layer."""
        gate, up = "VT[0]", f"VT[{self.rows}]"
        bias = f"        gather.load LT[{LT_BIAS}], n=2 ?lt_free !lt_full\n" if self.biased else ""
        gate_bias = f"{LT_BIAS} ?lt_full" if self.biased else None
        up_bias = f"{LT_BIAS + 1} !lt_free" if self.biased else None
        name = f"gate_up_{kernel.name}"
        return f"""
.kernel {name}
    wait
    count x10, act
    gather.load AL[0], n=x8
{_scalars()}{kernel.setup()}    set x8, {self.products}
    loop tiles, {name}_done
{bias}{kernel.tile(f"{name}_gate")}{kernel.merge_slot(gate, INPUT_SCALE, gate_bias)}\
{kernel.tile(f"{name}_up")}{kernel.merge_slot(up, INPUT_SCALE, up_bias)}\
{self._activation(gate, up)}\
{self._next_product()}\
    next
{name}_done:
    return
"""

    def gate_up_wide(self, kernel: TileKernel, tiles: int) -> str:
        """Gate and up where K does not fit AL: K blocks outside, ``tiles`` product tiles inside, all in chains at once.

        r1 times ``tiles`` product tiles, r2 descriptor, r3 ... r7 K blocks, r8 unused, r9 expert id, r10 layer. The
        activations come once for every ``tiles`` product tiles, block by block into the halves of AL.
        """
        name = f"gate_up_wide_{kernel.name}_{tiles}"
        al_half = self.chip.pe.al_groups // 2
        group_words = 8 * self.rows // self.chip.array.columns

        def block(*, first: bool, last: bool) -> str:
            words = str(group_words * kernel.k_block)
            lines = ""
            if last:  # 8, 4, 2 or 1 words a group
                words = "temp" if group_words in (2, 8) else "last_lsb" if group_words == 4 else "last_groups"
                part = "last_lsb" if group_words == 8 else "last_groups"
                lines += f"        add temp, {part}, {part}\n" if words == "temp" else ""
            lines += f"        gather.load AL[slot], n={words} ?al_free !al_full_{kernel.loader}\n"
            for tile in range(2 * tiles):
                final = tile == 2 * tiles - 1
                chain = tile * kernel.slices
                lines += kernel.load_and_multiply(
                    first=first,
                    last=last,
                    chain=chain,
                    target=f"{chain * self.rows}+",
                    load_waits=f" ?al_full_{kernel.loader}" if tile == 0 else "",
                    signals=(" !rt_full" if last else " !al_free") if final else "",
                )
            return lines + kernel.swap("slot") + _SWAP_ACT

        blocks = block(first=True, last=True)
        if not kernel.single:
            blocks = (
                block(first=True, last=False)
                + f"        loop middle, {name}_last\n"
                + block(first=False, last=False)
                + f"        next\n    {name}_last:\n"
                + block(first=False, last=True)
            )
        finish = ""
        for tile in range(tiles):
            gate_row, up_row = (str((2 * tile + i) * kernel.slices * self.rows) for i in range(2))
            gate, up = "VT[0]", f"VT[{self.rows}]"
            bias = [f"{LT_BIAS} ?lt_full", f"{LT_BIAS + 1} !lt_free"] if self.biased else [None, None]
            if self.biased:
                finish += f"        gather.load LT[{LT_BIAS}], n=2 ?lt_free !lt_full\n"
            finish += kernel.merge(0, gate, INPUT_SCALE, bias[0], row=gate_row, wait="" if tile else " ?rt_full")
            finish += kernel.merge(0, up, INPUT_SCALE, bias[1], row=up_row)
            finish += self._activation(gate, up)
            finish += (
                f"        vector.row_absmax VT[x8], n={self.rows}, row={MAXIMUM}\n        add x8, x8, {self.rows}\n"
            )
        # The array's last command gives rt_full and so cannot free AL: WAIT does.
        return f"""
.kernel {name}
    wait
    count x10, act
{_scalars()}{kernel.setup()}    set x8, {self.products}
    set slot, 0
    set other_slot, {al_half * group_words}
    set act, 0
    set x10, {al_half}
    loop tiles, {name}_done
{blocks}{finish}\
        wait !al_free
    next
{name}_done:
    return
"""

    def _activation(self, gate: str, up: str) -> str:
        """VT[x8] = rne(rne(g sigmoid(g)) u), or the clamped form rne(rne(u + 1) rne(g sigmoid(rne(alpha g))))."""
        product = "VT[x8]"
        n = f"n={self.rows}"
        if self.clamp is None:
            lines = [
                f"vector.sigmoid d={product}, a={gate}, {n}",
                f"vector.mul d={gate}, a={gate}, b={product}, {n}",
                f"vector.mul d={product}, a={gate}, b={up}, {n}",
            ]
        else:
            limit, alpha = self.clamp
            steps = [
                ("min", gate, gate, limit),
                ("max", up, up, -limit),
                ("min", up, up, limit),
                ("mul", product, gate, alpha),
                ("add", up, up, 1.0),
            ]
            lines = []
            for operation, target, source, value in steps:
                lines.append(f"set temp, {fp32_bits(value):#x}")
                lines.append(f"vector.{operation} d={target}, a={source}, b=IMMEDIATE[temp], {n}")
            lines += [
                f"vector.sigmoid d={product}, a={product}, {n}",
                f"vector.mul d={gate}, a={gate}, b={product}, {n}",
                f"vector.mul d={product}, a={up}, b={gate}, {n}",
            ]
        return "".join(f"        {line}\n" for line in lines)

    def _next_product(self) -> str:
        return f"        vector.row_absmax VT[x8], n={self.rows}, row={MAXIMUM}\n        add x8, x8, {self.rows}\n"

    def requantize(self) -> str:
        """r1 rows of all product tiles."""
        return f"""
.kernel requantize
    vector.row_reciprocal row={RECIPROCAL}, row_a={MAXIMUM}
    vector.row_scale row={INNER_SCALE}, row_a={MAXIMUM}
    vector.quantize d=AV[0], a=VT[{self.products}], n=tiles, row_b={RECIPROCAL}
    return
"""

    def exchange(self) -> str:
        """r1 rows of all product tiles, r2 other PEs, r3 words of this PE's pieces, r4 words of the whole row."""
        return f"""
.kernel exchange
    wait
    vector.row_store XM[0], row_a={MAXIMUM} ?xm_free !xm_full
    store XM[0], n=1 ?xm_full !xm_free
    loop column, exchange_maxima
        gather.load LT[{LT_BIAS}], n=1 ?lt_free !lt_full
        vector.row_load LT[{LT_BIAS}], row={PEER} ?lt_full !lt_free
        vector.row_max row={MAXIMUM}, row_a={MAXIMUM}, row_b={PEER}
    next
exchange_maxima:
    vector.row_reciprocal row={RECIPROCAL}, row_a={MAXIMUM}
    vector.row_scale row={INNER_SCALE}, row_a={MAXIMUM}
    vector.quantize d=XM[0], a=VT[{self.products}], n=tiles, row_b={RECIPROCAL} ?xm_free !xm_full
    store XM[0], n=middle ?xm_full !xm_free
    gather.load AL[0], n=last_groups
    return
"""

    def down(self, kernel: TileKernel) -> str:
        """r1 tiles, r2 descriptor, r3 ... r7 K blocks, r8 tokens."""
        target = "VT[0]"
        bias = f"        gather.load LT[{LT_BIAS}], n=1 ?lt_free !lt_full\n" if self.biased else ""
        down_bias = f"{LT_BIAS} ?lt_full !lt_free" if self.biased else None
        name = f"down_{kernel.name}"
        return f"""
.kernel {name}
    wait
{kernel.setup()}    set x10, {self.accumulators}
    loop tiles, {name}_done
{bias}{kernel.tile(name)}{kernel.merge_slot(target, INNER_SCALE, down_bias)}\
        vector.mul d={target}, a={target}, b=ROW[{WEIGHT}], n={self.rows}
        vector.add d=VT[x10], a=VT[x10], b={target}, n=x8, indexed, map={MAP}
        add x10, x10, {self.token_rows}
    next
{name}_done:
    return
"""

    def down_send(self, kernel: TileKernel) -> str:
        """r1 tiles, r2 descriptor, r3 ... r7 K blocks."""
        bias = f"        gather.load LT[{LT_BIAS}], n=1 ?lt_free !lt_full\n" if self.biased else ""
        down_bias = f"{LT_BIAS} ?lt_full !lt_free" if self.biased else None
        name = f"down_send_{kernel.name}"
        merge = kernel.merge_slot("VT[0]", INNER_SCALE, down_bias, out="XM[0] ?xm_free !xm_full")
        return f"""
.kernel {name}
    wait
{kernel.setup()}    loop tiles, {name}_done
{bias}{kernel.tile(name)}{merge}\
        store XM[0], n={self.rows} ?xm_full !xm_free
    next
{name}_done:
    return
"""

    def send(self) -> str:
        """r1 tiles of R rows."""
        return f"""
.kernel send
    wait
    set x10, {self.accumulators}
    loop tiles, send_done
        vector.move d=XM[0], a=VT[x10], n={self.rows} ?xm_free !xm_full
        store XM[0], n={self.rows} ?xm_full !xm_free
        add x10, x10, {self.rows}
    next
send_done:
    return
"""

    def finish(self) -> str:
        """r1 tiles of R rows."""
        return f"""
.kernel finish
    wait
    set x10, {self.accumulators}
    loop tiles, finish_done
        gather.load LT[{LT_TILE}], n={self.rows} ?lt_free !lt_full
        vector.add d=XM[0], a=LT[{LT_TILE}], b=VT[x10], n={self.rows} ?lt_full ?xm_free !lt_free !xm_full
        store XM[0], n={self.rows} ?xm_full !xm_free
        add x10, x10, {self.rows}
    next
finish_done:
    return
"""


def _scalars() -> str:
    """Scalars of an expert's tokens into row registers; all units are idle then."""
    return f"""    gather.load LT[{LT_SCALARS}], n={LT_SCALAR_ROWS}
    wait
    vector.row_load LT[{LT_SCALARS}], row={INPUT_SCALE}
    vector.row_load LT[{LT_SCALARS + 1}], row={MAXIMUM}
    vector.row_load LT[{LT_SCALARS + 2}], row={WEIGHT}
    vector.row_load LT[{LT_SCALARS + 3}], row={MAP}
"""


def fp32_bits(value: float) -> int:
    """Bits of the FP32 number nearest to ``value``."""
    return struct.unpack("<I", struct.pack("<f", value))[0]
