"""Bytes by memory tier and arithmetic of passes, measured from what was routed or expected from usage.

Placement (after the published machine): HB holds the KV cache, everything dense (attention, router, shared experts,
output matrix; both slices) and the resident experts' slices; all else is in LPDDR. Scales are stored once, with the
MSB slice: 4.5 bits per weight, 4.0 for an LSB slice. Per method:

* target pass: a resident MSB slice from HB with its LSB slice from LPDDR beside it (from HB where also resident), other
  experts whole from LPDDR;
* Elastic-SD draft: MSB slices only (or dense parts whole), all from HB;
* Quant-SD: HB's expert capacity holds the copy's experts instead of the target's slices, and the copy's dense
  part; other experts of the copy come from LPDDR, and so do all experts of the target;
* small model, EAGLE head: their own weights (INT8) from HB.

Keys and values that HB has no room for are read from LPDDR (``hb_share``). The embedding's few rows and activations are
left out; a drafter's own cache counts where `TrafficMeter.own_kv` says how large it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from sw_stack.elastic.drafters.protocol import DraftPass, WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, count_chosen, expert_weights
from sw_stack.elastic.slices import LSB_BITS_PER_WEIGHT, MSB_BITS_PER_WEIGHT
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.models.architectures import ModelConfig, tensor_shapes
from sw_stack.models.runtime import LayerRouting

WHOLE_BYTES = (MSB_BITS_PER_WEIGHT + LSB_BITS_PER_WEIGHT) / 8
MSB_BYTES = MSB_BITS_PER_WEIGHT / 8


@cache
def matrix_weights(config: ModelConfig) -> int:
    """Weights of all projections, the embedding table not among them unless it is the output matrix."""
    skip = () if config.tied_embeddings else ("embedding",)
    return sum(int(np.prod(s)) for name, s in tensor_shapes(config).items() if len(s) == 2 and name not in skip)


def dense_weights(config: ModelConfig) -> int:
    """Weights of all projections but the routed experts'."""
    return matrix_weights(config) - sum(config.moe_layers) * config.experts * expert_weights(config)


def resident_bytes(config: ModelConfig, reads: WeightReads | None, own_weights: int) -> int:
    """Dense weights that HB holds: the target's, and a drafter's own (of a separate copy the dense part)."""
    dense = dense_weights(config)
    own = {WeightReads.OWN: own_weights * WHOLE_BYTES, WeightReads.COPY: dense * MSB_BYTES}
    return int(dense * WHOLE_BYTES + own.get(reads, 0))


@dataclass
class ExpertReads:
    """Experts that verification passes touched, over all MoE layers.

    touched      distinct experts per layer and pass, summed
    hits         of them with a resident MSB slice
    layer_passes  MoE layers times passes
    """

    touched: int = 0
    hits: int = 0
    layer_passes: int = 0


@dataclass
class TrafficMeter:
    """Sums the work of all passes by phase, and moves the hot set on while verification is accounted.

    config       the target
    hot_set      resident slices
    draft_reads  how the drafter reads weights; None where nothing is drafted
    own_weights  of the drafter
    share        of HB
    own_kv       bytes of the drafter's own keys and values per byte of the target's

    most_kv_bytes, most_spilled_bytes  keys and values of all sequences at their largest, and the part in LPDDR
    """

    config: ModelConfig
    hot_set: HotSet
    draft_reads: WeightReads | None
    own_weights: int
    share: HbShare
    own_kv: float = 0.0
    draft: PassWork = field(default_factory=PassWork)
    verify: PassWork = field(default_factory=PassWork)
    refill_bytes: int = 0
    reads: ExpertReads = field(default_factory=ExpertReads)
    most_kv_bytes: int = 0
    most_spilled_bytes: int = 0

    def __post_init__(self) -> None:
        self.expert_weights = expert_weights(self.config)
        self._expert_passes = 1 if self.config.moe.mxfp4 else 2  # slices that a full product takes
        self._streamed = np.zeros(self.hot_set.resident.shape, np.bool_)
        self.dense_weights = dense_weights(self.config)

    @property
    def _dense_slices(self) -> int:
        """Slices of dense weights that a draft multiplies with."""
        return 2 if self.draft_reads is WeightReads.MSB_EXPERTS else 1

    @property
    def _dense_bytes(self) -> float:
        """Dense bytes of a draft pass."""
        return (WHOLE_BYTES if self._dense_slices == 2 else MSB_BYTES) * self.dense_weights

    def _own_draft(self, tokens: int, kv_bytes: float) -> PassWork:
        """A pass of a drafter with a model of its own; its cache spills as the target's does."""
        spilled = self.share.spilled(kv_bytes)
        near = self.own_weights * WHOLE_BYTES + self.own_kv * (kv_bytes - spilled)
        return PassWork(near, self.own_kv * spilled, 2.0 * tokens * self.own_weights)

    def add_draft(self, one: DraftPass, kv_bytes: int) -> None:
        """Account a draft pass; ``kv_bytes`` of keys and values are read with it."""
        if self.draft_reads is WeightReads.OWN:
            self.draft += self._own_draft(one.tokens, kv_bytes)
            return
        counts = count_chosen(one.routing, self.config.experts)
        used, resident = counts > 0, self.hot_set.resident[:, :, 0]
        self._streamed[:, :, 0] |= used & ~resident  # Quant-SD only: the copy's experts from LPDDR
        near, far, pairs = int((used & resident).sum()), int((used & ~resident).sum()), int(counts.sum())
        macs = self._dense_slices * one.tokens * self.dense_weights + pairs * self.expert_weights
        spilled = self.share.spilled(kv_bytes)
        self.draft += PassWork(
            self._dense_bytes + near * self.hot_set.sizes.msb_bytes + kv_bytes - spilled,
            float(far * self.hot_set.sizes.msb_bytes + spilled),
            float(macs),
        )

    def add_verify(self, routing: list[LayerRouting], tokens: int, kv_bytes: int) -> None:
        """Account a target pass layer by layer with the old set, overwriting each layer behind its reads."""
        sizes = self.hot_set.sizes
        near = far = 0
        counts = count_chosen(routing, self.config.experts)
        for layer, row in enumerate(counts):
            used = np.flatnonzero(row)
            resident = self.hot_set.read(layer, used)
            self.reads.touched += len(used)
            self.reads.hits += int(resident[:, 0].sum())
            self.reads.layer_passes += 1
            if self.draft_reads is WeightReads.COPY:  # what is resident are the copy's experts
                resident = np.zeros_like(resident)
            held = resident.sum(axis=0)
            near += int(held[0]) * sizes.msb_bytes + int(held[1]) * sizes.lsb_bytes
            missing = len(used) - held
            far += int(missing[0]) * sizes.msb_bytes + int(missing[1]) * sizes.lsb_bytes
            streamed = self._streamed[layer]
            if self.draft_reads is not WeightReads.COPY:
                streamed[used] = ~resident
            self.refill_bytes += self.hot_set.replace(layer, streamed)
        self.hot_set.end_pass()
        self._streamed[:] = False
        macs = 2.0 * tokens * self.dense_weights + self._expert_passes * int(counts.sum()) * self.expert_weights
        spilled = self.share.spilled(kv_bytes)
        self.verify += PassWork(
            WHOLE_BYTES * self.dense_weights + near + kv_bytes - spilled, float(far + spilled), macs
        )
        self.most_kv_bytes = max(self.most_kv_bytes, kv_bytes)
        self.most_spilled_bytes = max(self.most_spilled_bytes, spilled)

    # --- expectations, for scheduling ----------------------------------------------------------------------

    def expected_verify(self, tokens: int, kv_bytes: float) -> PassWork:
        """Work of a target pass over ``tokens``, experts used independently as often as in the last phase."""
        reached = 1 - (1 - np.minimum(self.hot_set.usage, 1)) ** tokens
        resident = self.hot_set.resident & (self.draft_reads is not WeightReads.COPY)
        bytes_of = np.array([self.hot_set.sizes.msb_bytes, self.hot_set.sizes.lsb_bytes])
        near = float((reached[:, :, None] * resident * bytes_of).sum())
        far = float((reached[:, :, None] * ~resident * bytes_of).sum())
        pairs = tokens * self.config.top_k * len(reached)
        macs = 2.0 * tokens * self.dense_weights + self._expert_passes * pairs * self.expert_weights
        spilled = self.share.spilled(kv_bytes)
        return PassWork(WHOLE_BYTES * self.dense_weights + near + kv_bytes - spilled, far + spilled, macs)

    def expected_draft(self, tokens: int, kv_bytes: float) -> PassWork:
        """Work of a draft pass over ``tokens``."""
        if self.draft_reads is WeightReads.OWN:
            return self._own_draft(tokens, kv_bytes)
        usage = self.hot_set.usage
        held = self.hot_set.resident[:, :, 0]
        if self.draft_reads.resident_only:  # the same k, among residents only
            inside = usage * held
            total = inside.sum(axis=1, keepdims=True)
            scale = np.divide(np.minimum(held.sum(axis=1, keepdims=True), self.config.top_k), total,
                              out=np.zeros_like(total), where=total > 0)  # fmt: skip
            usage = np.minimum(inside * scale, 1)
        reached = 1 - (1 - np.minimum(usage, 1)) ** tokens
        near, far = float((reached * held).sum()), float((reached * ~held).sum())
        pairs = tokens * self.config.top_k * len(reached)
        spilled = self.share.spilled(kv_bytes)
        return PassWork(
            self._dense_bytes + near * self.hot_set.sizes.msb_bytes + kv_bytes - spilled,
            far * self.hot_set.sizes.msb_bytes + spilled,
            float(self._dense_slices * tokens * self.dense_weights + pairs * self.expert_weights),
        )
