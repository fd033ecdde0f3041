"""Text of the kernel of a plain projection over token blocks: y = W x + bias, every row sent."""

from __future__ import annotations

from hw.errors import UserError
from hw.params import ChipParams
from sw_stack.compiler.kernels.projection import TileKernel, most_blocks

LT_SCALES = 0  # one row per token block
LT_BIAS = 4
MOST_BLOCKS = 4


def projection_blocks(chip: ChipParams, slices: int) -> int:
    """Token blocks that the kernel takes per pass over the weights: as a tile can, and rows of XM and VT to send."""
    rows = chip.array.rows
    return max(1, min(MOST_BLOCKS, chip.pe.xm_words // rows, chip.pe.vt_rows // rows, most_blocks(chip, slices)))


def project_name(kernel: TileKernel, *, biased: bool) -> str:
    """The name of the kernel that `project` defines."""
    blocks = f"_{kernel.blocks}" if kernel.blocks > 1 else ""
    return f"project_{kernel.name}{blocks}{'_biased' if biased else ''}"


def project(kernel: TileKernel, *, biased: bool) -> str:
    """r1 tiles, r2 descriptor, r3 ... r7 K blocks, r8 words of AL.

    The weights of a tile are read once for all M token blocks. Row register k holds the scales of token block k.
    """
    rows, blocks, pe = kernel.chip.array.rows, kernel.blocks, kernel.chip.pe
    if blocks > MOST_BLOCKS or blocks * rows > min(pe.xm_words, pe.vt_rows):
        most = min(MOST_BLOCKS, pe.xm_words // rows, pe.vt_rows // rows)
        raise UserError(f"token blocks must be at most {most} (chip {kernel.chip.name}), not {blocks}")
    merges = ""
    for block in range(blocks):
        first, last = block == 0, block == blocks - 1
        bias = f"{LT_BIAS} {'?lt_full' if first else ''} {'!lt_free' if last else ''}" if biased else None
        wait, free = " ?rt_full" if first else "", f" !{kernel.rt_free}" if last else ""
        out = f"XM[{block * rows}] {'?xm_free' if first else ''} {'!xm_full' if last else ''}"
        merges += kernel.merge(block, f"VT[{block * rows}]", block, bias, wait=wait, free=free, out=out)
    loads = "".join(f"    vector.row_load LT[{LT_SCALES + k}], row={k}\n" for k in range(blocks))
    bias_load = f"        gather.load LT[{LT_BIAS}], n=1 ?lt_free !lt_full\n" if biased else ""
    name = project_name(kernel, biased=biased)
    return f"""
.kernel {name}
    wait
    gather.load AL[0], n=x8
    gather.load LT[{LT_SCALES}], n={blocks}
    wait
{loads}{kernel.setup()}    loop tiles, {name}_done
{bias_load}{kernel.tile(name)}{merges}{kernel.swap("slot")}\
        store XM[0], n={blocks * rows} ?xm_full !xm_free
    next
{name}_done:
    return
"""
