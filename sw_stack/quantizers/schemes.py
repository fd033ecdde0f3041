"""Ways to get a 4-bit draft next to an INT8 target, as quantisers of one weight matrix, with the storage each costs.

All work on groups of G = 32 inputs. s is the target's FP16 scale, q its integer, q = 16 h + l. Levels are what
the draft multiplies with, as float32; integers and scales are exact in it. A scheme is given its best legal
form: the separate copy also exists with a searched scale, and residual planes take their least-squares scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cycle_model.numerics import GROUP_SIZE, QuantizedWeights
from hw.errors import UserError

DRAFT_BITS = 4
TARGET_BITS = 8
SCALE_BITS = 16 / GROUP_SIZE
"""One FP16 scale per group, in bits per weight."""
STORED_TARGET_BITS = TARGET_BITS + SCALE_BITS

Reconstruct = Callable[[np.ndarray, QuantizedWeights], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One quantiser.

    name        short name, also the key in JSON
    summary     what the draft multiplies with
    read_bits   bits per weight that the draft streams
    extra_bits  bits per weight stored beyond the INT8 target's 8.5
    formula     how the two follow from G = 32
    reconstruct (w float32 [outputs, inputs], its INT8 quantisation) -> float32 levels of the same shape
    """

    name: str
    summary: str
    read_bits: float
    extra_bits: float
    formula: str
    reconstruct: Reconstruct


def _grouped(matrix: np.ndarray) -> np.ndarray:
    return matrix.reshape(len(matrix), -1, GROUP_SIZE)


def _fp16(values: np.ndarray) -> np.ndarray:
    """Rounded to FP16 for storage, as float32."""
    return values.astype(np.float16).astype(np.float32)


def _on_target_scale(integers: np.ndarray, quantized: QuantizedWeights) -> np.ndarray:
    wide = quantized.scales.astype(np.float32)[:, :, None]
    return (_grouped(integers.astype(np.float32)) * wide).reshape(integers.shape)


def augmented(_: np.ndarray, quantized: QuantizedWeights) -> np.ndarray:
    """Mid-rise levels s (16 h + 8): plain truncated storage, the fixed bit inserted at the multiplier."""
    q = quantized.q.astype(np.int16)
    return _on_target_scale((q & ~15) + 8, quantized)


def augmented_corrected(_: np.ndarray, quantized: QuantizedWeights) -> np.ndarray:
    """s (16 h + 7.5): the augmented levels minus half of the target's step.

    l spans 0 to 15, whose middle is 7.5; the augmentation adds 8. The excess s / 2 times the sum of the group's
    activations is the same for every output that shares s, so it need not touch the weights: it is one integer
    sum per token and group, and one subtraction per dot product before scaling.
    """
    q = quantized.q.astype(np.int16)
    return _on_target_scale((q & ~15) + 7.5, quantized)


def truncated(_: np.ndarray, quantized: QuantizedWeights) -> np.ndarray:
    """s 16 h: the missing slice counts as zero."""
    return _on_target_scale(quantized.q.astype(np.int16) & ~15, quantized)


def rounded_shared(_: np.ndarray, quantized: QuantizedWeights) -> np.ndarray:
    """16 s clip(rne(q / 16), -8, 7): mid-tread levels on the target's scale; not a slice of q."""
    return _on_target_scale(16 * np.clip(np.rint(quantized.q / np.float32(16)), -8, 7), quantized)


NESTED_LIMIT = 119
"""Largest |q| that splits as 16 k + l with k in [-7, 7] and a signed l in [-8, 7]."""


def rounded_nested(w: np.ndarray, _: QuantizedWeights) -> np.ndarray:
    """Rounded upper slice of a target that is limited to |q| <= 119, so that the lower slice is signed.

    k = floor((q + 8) / 16). The target's step grows by 127 / 119, which costs it 0.56 dB at every weight.
    """
    grouped = _grouped(w)
    scale = _fp16(np.abs(grouped).max(axis=2, keepdims=True) / NESTED_LIMIT)
    q = np.clip(np.rint(grouped / np.where(scale == 0, 1, scale)), -NESTED_LIMIT, NESTED_LIMIT)
    return (16 * np.floor((q + 8) / 16) * scale).reshape(w.shape)


def copy_absmax(w: np.ndarray, _: QuantizedWeights) -> np.ndarray:
    """A separate 4-bit copy with scale absmax / 7 and integers in [-7, 7]."""
    grouped = _grouped(w)
    scale = _fp16(np.abs(grouped).max(axis=2, keepdims=True) / 7)
    return (np.clip(np.rint(grouped / np.where(scale == 0, 1, scale)), -7, 7) * scale).reshape(w.shape)


_SHRINK = np.linspace(0.5, 1.0, 11, dtype=np.float32)


def _search_scale(grouped: np.ndarray, scale: np.ndarray, levels: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Levels of the group scale with the least squared error among ``_SHRINK`` x ``scale``."""
    best = np.zeros_like(grouped)
    least = np.full(scale.shape[:2], np.inf, np.float32)
    for factor in _SHRINK:
        candidate = _fp16(scale * factor)
        reconstructed = levels(grouped / np.where(candidate == 0, np.float32(1), candidate)) * candidate
        rest = reconstructed - grouped
        error = np.einsum("ogk,ogk->og", rest, rest)
        better = error < least
        best[better] = reconstructed[better]
        least[better] = error[better]
    return best


def copy_searched(w: np.ndarray, _: QuantizedWeights) -> np.ndarray:
    """A separate 4-bit copy whose scale is searched per group; the largest magnitude may take level -8."""
    grouped = _grouped(w)
    return _search_scale(grouped, _extreme(grouped) / -8, lambda v: np.clip(np.rint(v), -8, 7)).reshape(w.shape)


def matryoshka(base_bits: int) -> Reconstruct:
    """Residual planes: a base of ``base_bits`` with a searched scale, then planes of +-1.

    Each further bit is the sign of what is left, times its own FP16 scale per group, the mean magnitude of what
    is left (the least-squares choice). The base is mid-rise or, from two bits up, mid-tread, whichever leaves
    the matrix the smaller error.
    """

    def reconstruct(w: np.ndarray, _: QuantizedWeights) -> np.ndarray:
        grouped = _grouped(w)
        planes = DRAFT_BITS - base_bits
        candidates = [_with_planes(grouped, base, planes) for base in _matryoshka_bases(grouped, base_bits)]
        return min(candidates, key=lambda levels: np.square(levels - grouped).sum()).reshape(w.shape)

    return reconstruct


def _matryoshka_bases(grouped: np.ndarray, base_bits: int) -> list[np.ndarray]:
    """Levels of each possible base quantiser of ``base_bits``."""
    if base_bits == 1:
        return [_signs(grouped) * _mean_magnitude(grouped)]
    half = 1 << (base_bits - 1)
    extreme = _extreme(grouped)
    mid_rise = _search_scale(
        grouped, np.abs(extreme) / (2 * half - 1), lambda v: np.clip(np.floor(v / 2), -half, half - 1) * 2 + 1
    )
    mid_tread = _search_scale(grouped, extreme / -half, lambda v: np.clip(np.rint(v), -half, half - 1))
    return [mid_rise, mid_tread]


def _with_planes(grouped: np.ndarray, levels: np.ndarray, planes: int) -> np.ndarray:
    for _ in range(planes):
        rest = grouped - levels
        levels = levels + _signs(rest) * _mean_magnitude(rest)
    return levels


def _signs(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, np.float32(-1), np.float32(1))


def _mean_magnitude(values: np.ndarray) -> np.ndarray:
    return _fp16(np.abs(values).mean(axis=2, keepdims=True))


def _extreme(grouped: np.ndarray) -> np.ndarray:
    """The weight of largest magnitude in each group, with its sign."""
    at = np.abs(grouped).argmax(axis=2, keepdims=True)
    return np.take_along_axis(grouped, at, axis=2)


def schemes(base_bits: int = 2) -> tuple[Scheme, ...]:
    """All compared schemes, the target first; ``base_bits`` (1 to 4) is the matryoshka base.

    Raises
    ------
    UserError
        ``base_bits`` out of range.
    """
    if not 1 <= base_bits <= DRAFT_BITS:
        raise UserError(f"base bits must be 1 to {DRAFT_BITS}, not {base_bits}")
    sliced = DRAFT_BITS + SCALE_BITS
    planes = DRAFT_BITS - base_bits
    plane_read = base_bits + SCALE_BITS + planes * (1 + SCALE_BITS)
    plane_target = base_bits + SCALE_BITS + (TARGET_BITS - base_bits) * (1 + SCALE_BITS)
    shared = "4 + 16/G read; all of it is the target's upper slice"
    return (
        Scheme(
            name="int8",
            summary="the target itself: s q",
            read_bits=STORED_TARGET_BITS,
            extra_bits=0,
            formula="8 + 16/G",
            reconstruct=lambda _, quantized: quantized.dequantized(),
        ),
        Scheme(
            name="augmented",
            summary="LSB augmentation: s (16h + 8)",
            read_bits=sliced,
            extra_bits=0,
            formula=shared,
            reconstruct=augmented,
        ),
        Scheme(
            name="augmented-corrected",
            summary="s (16h + 8) - s/2 x activation sum",
            read_bits=sliced,
            extra_bits=0,
            formula=f"{shared}; + 1 sum per token and group, 1 subtraction per dot product",
            reconstruct=augmented_corrected,
        ),
        Scheme(
            name="truncated",
            summary="plain truncation: s 16h",
            read_bits=sliced,
            extra_bits=0,
            formula=shared,
            reconstruct=truncated,
        ),
        Scheme(
            name="rounded-shared",
            summary="nearest 16k on the target's scale",
            read_bits=sliced,
            extra_bits=DRAFT_BITS,
            formula="4 + 16/G read; nibbles stored apart, 4 extra, scale shared",
            reconstruct=rounded_shared,
        ),
        Scheme(
            name="rounded-nested",
            summary=f"nearest 16k, signed low slice, |q| <= {NESTED_LIMIT}",
            read_bits=sliced,
            extra_bits=0,
            formula=f"{shared}; target coarser by 127/{NESTED_LIMIT}",
            reconstruct=rounded_nested,
        ),
        Scheme(
            name="copy-absmax",
            summary="own 4-bit copy, scale absmax/7",
            read_bits=sliced,
            extra_bits=sliced,
            formula="4 + 16/G read, all extra",
            reconstruct=copy_absmax,
        ),
        Scheme(
            name="copy-searched",
            summary="own 4-bit copy, searched scale",
            read_bits=sliced,
            extra_bits=sliced,
            formula="4 + 16/G read, all extra",
            reconstruct=copy_searched,
        ),
        Scheme(
            name="matryoshka",
            summary=f"{base_bits}-bit base + {planes} planes of +-1",
            read_bits=plane_read,
            extra_bits=plane_target - STORED_TARGET_BITS,
            formula="b1 + 16/G + (4 - b1)(1 + 16/G) read; extra (8 - b1) 16/G, if the target is planes too",
            reconstruct=matryoshka(base_bits),
        ),
    )
