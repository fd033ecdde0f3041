"""Which weights a forward pass multiplies with, selectable per kind of projection and per call."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WeightScheme(Enum):
    """What stands for a weight w of the INT8 target s q, q = 16 h + l.

    INT8       the target: both slices
    AUGMENTED  the draft: s (16 h + 8), the upper slice alone with the fixed bit
    TRUNCATED  s 16 h
    ROUNDED    s 16 clip(rne(q / 16), -8, 7): rounding on the shared scale
    COPY4      a separate 4-bit copy: own scale absmax / 7, integers -7 to 7
    FLOAT      w itself, and activations not quantised either: the float comparison

    MXFP4 weights have one slice: all schemes but FLOAT use them as they are.
    """

    INT8 = "int8"
    AUGMENTED = "augmented"
    TRUNCATED = "truncated"
    ROUNDED = "rounded"
    COPY4 = "copy4"
    FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class Precision:
    """A scheme for each kind of projection.

    attention  query, key, value and output projections
    dense      dense feed-forward layers
    shared     shared experts
    experts    routed experts
    head       the output matrix
    router     the router, in full in every draft
    """

    attention: WeightScheme = WeightScheme.INT8
    dense: WeightScheme = WeightScheme.INT8
    shared: WeightScheme = WeightScheme.INT8
    experts: WeightScheme = WeightScheme.INT8
    head: WeightScheme = WeightScheme.INT8
    router: WeightScheme = WeightScheme.INT8

    @classmethod
    def uniform(cls, scheme: WeightScheme) -> Precision:
        """``scheme`` everywhere but in the router, which stays INT8 unless everything is float."""
        router = WeightScheme.FLOAT if scheme is WeightScheme.FLOAT else WeightScheme.INT8
        return cls(attention=scheme, dense=scheme, shared=scheme, experts=scheme, head=scheme, router=router)


FULL = Precision()
"""The target."""
DRAFT = Precision.uniform(WeightScheme.AUGMENTED)
"""The draft: upper slices only, also of dense layers and head; the router in full."""
DRAFT_EXPERTS = Precision(experts=WeightScheme.AUGMENTED)
"""The draft with everything but the routed experts in full."""
