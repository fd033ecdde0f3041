"""Text of the kernels of an expert's feed-forward network: gate and up, activation, requantise, down, combination.

    clear           accumulators of all tokens = +0
    gate_up_*       gather activations and scalars; per tile: gate, up, SiLU x up (or clamped), row maximum
    requantize      scale and reciprocal of the row maximum; INT8 into AV
    exchange        the same with other PEs: maxima and INT8 go out and come in; the whole row lands in AL
    down_*          per tile: down, x expert weight, added to the accumulators at the rows of the map
    finish          accumulators + residual, sent

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


@dataclass(frozen=True)
class ExpertLayout:
    """Where an expert's values are in VT, in rows.

    Gate, up and temporary tiles; then the products, a tile of R rows each; then the accumulators: for every tile of the
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
        return 3 * self.rows

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
        gate, up, temporary = (f"VT[{i * self.rows}]" for i in range(3))
        bias = f"        gather.load LT[{LT_BIAS}], n=2 ?lt_free !lt_full\n" if self.biased else ""
        gate_bias = f"{LT_BIAS} ?lt_full" if self.biased else None
        up_bias = f"{LT_BIAS + 1} !lt_free" if self.biased else None
        name = f"gate_up_{kernel.name}"
        return f"""
.kernel {name}
    wait
    count x10, act
    gather.load AL[0], n=x8
    gather.load LT[{LT_SCALARS}], n={LT_SCALAR_ROWS}
    wait
    vector.row_load LT[{LT_SCALARS}], row={INPUT_SCALE}
    vector.row_load LT[{LT_SCALARS + 1}], row={MAXIMUM}
    vector.row_load LT[{LT_SCALARS + 2}], row={WEIGHT}
    vector.row_load LT[{LT_SCALARS + 3}], row={MAP}
{kernel.setup()}    set x8, {self.products}
    loop tiles, {name}_done
{bias}{kernel.tile(f"{name}_gate")}{kernel.merge(0, gate, INPUT_SCALE, gate_bias)}{kernel.next_slot()}\
{kernel.tile(f"{name}_up")}{kernel.merge(0, up, INPUT_SCALE, up_bias)}{kernel.next_slot()}\
{self._activation(gate, up, temporary)}\
        vector.row_absmax VT[x8], n={self.rows}, row={MAXIMUM}
        add x8, x8, {self.rows}
    next
{name}_done:
    return
"""

    def _activation(self, gate: str, up: str, temporary: str) -> str:
        """VT[x8] = rne(rne(g sigmoid(g)) u), or the clamped form rne(rne(u + 1) rne(g sigmoid(rne(alpha g))))."""
        n = f"n={self.rows}"
        if self.clamp is None:
            lines = [
                f"vector.sigmoid d={temporary}, a={gate}, {n}",
                f"vector.mul d={gate}, a={gate}, b={temporary}, {n}",
                f"vector.mul d=VT[x8], a={gate}, b={up}, {n}",
            ]
        else:
            limit, alpha = self.clamp
            steps = [
                ("min", gate, gate, limit),
                ("max", up, up, -limit),
                ("min", up, up, limit),
                ("mul", temporary, gate, alpha),
                ("add", up, up, 1.0),
            ]
            lines = []
            for operation, target, source, value in steps:
                lines.append(f"set temp, {fp32_bits(value):#x}")
                lines.append(f"vector.{operation} d={target}, a={source}, b=IMMEDIATE[temp], {n}")
            lines += [
                f"vector.sigmoid d={temporary}, a={temporary}, {n}",
                f"vector.mul d={gate}, a={gate}, b={temporary}, {n}",
                f"vector.mul d=VT[x8], a={up}, b={gate}, {n}",
            ]
        return "".join(f"        {line}\n" for line in lines)

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
{bias}{kernel.tile(name)}{kernel.merge(0, target, INNER_SCALE, down_bias)}\
{kernel.next_slot()}\
        vector.mul d={target}, a={target}, b=ROW[{WEIGHT}], n={self.rows}
        vector.add d=VT[x10], a=VT[x10], b={target}, n=x8, indexed, map={MAP}
        add x10, x10, {self.token_rows}
    next
{name}_done:
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


def fp32_bits(value: float) -> int:
    """Bits of the FP32 number nearest to ``value``."""
    return struct.unpack("<I", struct.pack("<f", value))[0]
