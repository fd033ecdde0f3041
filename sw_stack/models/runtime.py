"""The bit-exact runtime: prefill, batched decode and trees of tokens through the machine's numerics.

    model = QuantizedModel(source)
    runtime = Runtime(model)
    cache = runtime.new_cache()
    result = runtime.forward([Segment(cache, prompt)], logits="last")
    cache.commit()

A forward pass takes new tokens of any number of sequences. Every token's logits have the same bits whatever
else is in the pass: projections are computed per output in stated order, everything else per token, and a tree
node attends to its own root path in position order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cycle_model.functional import rotary, routing, rows
from cycle_model.functional.attention import attend
from hw.errors import UserError
from sw_stack.models.architectures import MLA_LATENT_NORM_EPS, GqaConfig, GroupScore, MlaConfig, RouterKind
from sw_stack.models.batch import Batch, LayerRouting, Segment, StepResult, begin_batch
from sw_stack.models.batch_kernels import BatchKernels
from sw_stack.models.kv_cache import HeadStore, KvCache, KvFormat
from sw_stack.models.precision import FULL, Precision, WeightScheme
from sw_stack.models.quantized_model import LayerWeights, QuantizedModel
from sw_stack.models.threads import WorkerThreads
from sw_stack.models.weights import ProjectionStack

_ROUTER_KINDS = {
    RouterKind.SOFTMAX: routing.SOFTMAX,
    RouterKind.SIGMOID: routing.SIGMOID,
    RouterKind.TOPK_SOFTMAX: routing.TOPK_SOFTMAX,
}
_NONE = np.zeros(0, np.float32)


class Runtime:
    """Forward passes of one model.

    Parameters
    ----------
    model : quantised weights
    kv_format : of new caches
    threads : CPU threads; no result depends on it
    """

    def __init__(self, model: QuantizedModel, *, kv_format: KvFormat = KvFormat.INT8, threads: int = 1) -> None:
        self.model, self.config, self.kv_format = model, model.config, kv_format
        self._kernels = BatchKernels(WorkerThreads(threads))
        self._eps = np.float32(self.config.norm_eps)

    def new_cache(self) -> KvCache:
        """An empty sequence."""
        return KvCache(self.config, self.kv_format)

    def forward(
        self,
        segments: Sequence[Segment],
        *,
        precision: Precision = FULL,
        resident: np.ndarray | None = None,
        logits: str = "all",
    ) -> StepResult:
        """Run new tokens; their keys and values stay pending in the caches.

        Parameters
        ----------
        segments : at least one token each; a cache occurs once
        precision : which weights each kind of projection uses
        resident : bool [layers, experts], experts that routing may choose; None = all
        logits : "all" tokens, "last" of each segment, or "none"

        Raises
        ------
        UserError
            No token, a token beyond the vocabulary, a position beyond the context, a wrong mask, values that
            overflow FP32.
        """
        segments = list(segments)
        resident = self._checked_mask(resident)
        tokens = self._checked_tokens(segments)
        if logits not in ("all", "last", "none"):
            raise UserError(f"logits must be all, last or none, not {logits!r}")
        batch = begin_batch(segments, self.model.phases, self.model.rope_factor)
        try:
            x = self.model.embedding[tokens].astype(np.float32)
            for i, segment in enumerate(segments):
                if segment.inputs is not None:
                    x[batch.first[i] : batch.first[i + 1]] = segment.inputs
            result, records = self._layers(batch, x, precision, resident, logits)
        except BaseException:
            for segment, node in zip(segments, batch.nodes, strict=True):
                segment.cache.truncate(node)
            raise
        return StepResult(result, x, records, batch.first)

    def logits(self, hidden: np.ndarray, precision: Precision = FULL) -> np.ndarray:
        """Final norm and output matrix of rows float32 [n, hidden]; float32 [n, vocabulary]."""
        return self.head(self.features(hidden), precision)

    def features(self, hidden: np.ndarray) -> np.ndarray:
        """Final norm of rows float32 [n, hidden]: what the output matrix multiplies."""
        return self._kernels.norm(np.ascontiguousarray(hidden, np.float32), self.model.final_norm, self._eps)

    def head(self, features: np.ndarray, precision: Precision = FULL) -> np.ndarray:
        """Output matrix of rows float32 [n, hidden] that are normed already; float32 [n, vocabulary]."""
        return self._kernels.project(self.model.head, precision.head, features, "the output matrix")

    def project(self, stack: ProjectionStack, x: np.ndarray, where: str) -> np.ndarray:
        """A projection beside the decoder's own, in INT8; x float32 [n, inputs], ``where`` for messages."""
        return self._kernels.project(stack, WeightScheme.INT8, x, where)

    # --- a pass, step by step ------------------------------------------------------------------------------

    def _checked_mask(self, resident: np.ndarray | None) -> np.ndarray:
        shape = (self.config.layers, self.config.experts)
        if resident is None:
            return np.ones(shape, np.bool_)
        resident = np.asarray(resident)
        if resident.shape != shape or resident.dtype != np.bool_:
            raise UserError(f"resident must be bool {shape}, not {resident.dtype} {resident.shape}")
        return np.ascontiguousarray(resident)

    def _checked_tokens(self, segments: list[Segment]) -> np.ndarray:
        if not segments or not all(len(segment) for segment in segments):
            raise UserError("a forward pass must have at least one token in each sequence")
        if len({id(segment.cache) for segment in segments}) != len(segments):
            raise UserError("a cache must occur once in a forward pass")
        tokens = np.concatenate([np.asarray(segment.tokens, np.int64) for segment in segments])
        wrong = (tokens < 0) | (tokens >= self.config.vocab)
        if wrong.any():
            raise UserError(f"token ids must be 0 to {self.config.vocab - 1}, not {int(tokens[wrong][0])}")
        return tokens

    def _layers(
        self, batch: Batch, x: np.ndarray, precision: Precision, resident: np.ndarray, which: str
    ) -> tuple[np.ndarray, list[LayerRouting]]:
        """Everything behind the embedding; x becomes the last layer's output. Logits of ``which``, and the routing."""
        records: list[LayerRouting] = []
        for index in range(self.config.layers):
            weights = self.model.layer(index)
            self._attention(index, weights, batch, x, precision)
            self._feed_forward(index, weights, x, precision, resident[index], records)
        if which == "none":
            return np.empty((0, self.config.vocab), np.float32), records
        return self.logits(x[self._head_rows(batch, which)], precision), records

    @staticmethod
    def _head_rows(batch: Batch, which: str) -> np.ndarray | slice:
        """Rows that go through the output matrix: "all", or the "last" of each segment."""
        return slice(None) if which == "all" else batch.first[1:] - 1

    def _attention(self, index: int, weights: LayerWeights, batch: Batch, x: np.ndarray, precision: Precision) -> None:
        """x += o(attention(norm(x)))."""

        def project(stack: ProjectionStack, rows: np.ndarray) -> np.ndarray:
            return self._kernels.project(stack, precision.attention, rows, f"attention of layer {index}")

        def expanded(i: int) -> np.ndarray:
            return self._expanded(index, weights, batch.segments[i].cache, precision)

        first = project(weights.first, self._kernels.norm(x, weights.attention_norm, self._eps))
        queries = first
        if weights.query_up is not None:
            queries = project(weights.query_up, self._query_norm(weights, first))
        queries = self._heads(index, weights, batch, first, queries)
        mixed = self._attend(index, weights, batch, queries, expanded)
        rows.add_rows(x, project(weights.output, mixed))

    def _attend(
        self,
        index: int,
        weights: LayerWeights,
        batch: Batch,
        queries: np.ndarray,
        expanded: Callable[[int], np.ndarray],
    ) -> np.ndarray:
        """Attention core of all sequences, float32 [n, heads x value size]; ``expanded``: see `_stored_heads`."""
        a = self.config.attention
        value_dim = a.head_dim if isinstance(a, GqaConfig) else a.value_dim
        mixed = np.empty((len(queries), a.heads, value_dim), np.float32)
        scale, window = np.float32(a.softmax_scale), self.config.windows[index] or 0

        def sequence(i: int) -> None:
            begin, end = batch.first[i], batch.first[i + 1]
            keys, values = self._stored_heads(index, batch.segments[i].cache, lambda: expanded(i))
            attend(
                queries[begin:end], scale, keys.data, keys.scales, values.data, values.scales, batch.committed[i],
                batch.paths[i], batch.positions[begin:end] + 1, window, weights.sinks, 0, end - begin,
                mixed[begin:end],
            )  # fmt: skip

        products = int((batch.positions + 1).sum()) * a.heads * (a.head_dim + value_dim)
        if isinstance(a, GqaConfig):
            self._kernels.threads.each(sequence, len(batch.segments), products)
        else:  # projecting the cached latents is split over threads itself; a thread must not wait for its own pool
            for i in range(len(batch.segments)):
                sequence(i)
        return mixed.reshape(len(queries), -1)

    def _heads(
        self, index: int, weights: LayerWeights, batch: Batch, first: np.ndarray, queries: np.ndarray
    ) -> np.ndarray:
        """Queries float32 [n, heads, d], normed and rotated; keys and values go to the caches.

        ``first`` is what the first projection gave, ``queries`` the same or, with a latent query, the second one's.
        """
        a = self.config.attention
        if isinstance(a, GqaConfig):
            return self._gqa_heads(index, weights, batch, first, a)
        return self._mla_heads(index, weights, batch, first, queries, a)

    def _gqa_heads(
        self, index: int, weights: LayerWeights, batch: Batch, first: np.ndarray, a: GqaConfig
    ) -> np.ndarray:
        n, narrow = len(first), a.kv_heads * a.head_dim
        queries = np.ascontiguousarray(first[:, : a.query_size]).reshape(n, a.heads, a.head_dim)
        keys = np.ascontiguousarray(first[:, a.query_size : a.query_size + narrow]).reshape(n, a.kv_heads, a.head_dim)
        values = np.ascontiguousarray(first[:, a.query_size + narrow :]).reshape(n, a.kv_heads, a.head_dim)
        interleaved = self.config.rope.interleaved
        for heads, norm in ((queries, weights.query_norm), (keys, weights.key_norm)):
            rotary.norm_and_rotate(heads, norm, self._eps, batch.cosines, batch.sines, 0, interleaved)
        self._store(index, batch, keys, values)
        return queries

    def _mla_heads(
        self,
        index: int,
        weights: LayerWeights,
        batch: Batch,
        first: np.ndarray,
        queries: np.ndarray,
        a: MlaConfig,
    ) -> np.ndarray:
        """Of the caches: latent and rope key."""
        n = len(first)
        split = first.shape[1] - a.kv_rank - a.rope_dim
        queries = np.ascontiguousarray(queries[:, : a.query_size]).reshape(n, a.heads, a.head_dim)
        eps = np.float32(MLA_LATENT_NORM_EPS)
        latent = self._kernels.norm(np.ascontiguousarray(first[:, split : split + a.kv_rank]), weights.kv_norm, eps)
        rope = np.ascontiguousarray(first[:, split + a.kv_rank :]).reshape(n, 1, a.rope_dim)
        interleaved = self.config.rope.interleaved
        for heads, offset in ((queries, a.nope_dim), (rope, 0)):
            rotary.norm_and_rotate(heads, _NONE, self._eps, batch.cosines, batch.sines, offset, interleaved)
        self._store(index, batch, rope, latent.reshape(n, 1, a.kv_rank))
        return queries

    def _query_norm(self, weights: LayerWeights, first: np.ndarray) -> np.ndarray:
        """The latent query, normed: what ``query_up`` multiplies."""
        latent = np.ascontiguousarray(first[:, : self.config.attention.query_rank])
        return self._kernels.norm(latent, weights.query_down_norm, np.float32(MLA_LATENT_NORM_EPS))

    def _store(self, index: int, batch: Batch, keys: np.ndarray, values: np.ndarray) -> None:
        for i, segment in enumerate(batch.segments):
            begin, end = batch.first[i], batch.first[i + 1]
            slot = segment.cache.length + batch.nodes[i]
            segment.cache.keys[index].write(slot, keys[begin:end])
            segment.cache.values[index].write(slot, values[begin:end])

    def _expanded(self, index: int, weights: LayerWeights, cache: KvCache, precision: Precision) -> np.ndarray:
        """MLA: keys and values of all heads, projected from the cached latents, float32 [slots, heads x (k + v)]."""
        slots, latent = cache.length + cache.pending, cache.values[index]
        if precision.attention is WeightScheme.FLOAT:
            values = latent.rows(slots) * latent.row_scales(slots)[:, None]
        elif cache.kv_format is KvFormat.INT8:
            return self._kernels.project_quantized(
                weights.kv_up, precision.attention, *self._cached_latents(index, cache)
            )
        else:
            values = np.ascontiguousarray(latent.rows(slots))
        return self._kernels.project(weights.kv_up, precision.attention, values, f"latent of layer {index}")

    @staticmethod
    def _cached_latents(index: int, cache: KvCache) -> tuple[np.ndarray, np.ndarray]:
        """The cached INT8 latents and their scales, which are the quantised input of ``kv_up``."""
        slots, latent = cache.length + cache.pending, cache.values[index]
        return np.ascontiguousarray(latent.rows(slots)), np.ascontiguousarray(latent.row_scales(slots))

    def _stored_heads(
        self, index: int, cache: KvCache, expanded: Callable[[], np.ndarray]
    ) -> tuple[HeadStore, HeadStore]:
        """Keys and values to attend to: the cache's own, or for MLA ``expanded``, projected from the latents."""
        a = self.config.attention
        if isinstance(a, GqaConfig):
            return cache.keys[index], cache.values[index]
        slots, rope = cache.length + cache.pending, cache.keys[index]
        heads = expanded().reshape(slots, a.heads, a.nope_dim + a.value_dim)
        keys = np.empty((slots, a.heads, a.head_dim), np.float32)
        keys[:, :, : a.nope_dim] = heads[:, :, : a.nope_dim]
        keys[:, :, a.nope_dim :] = (rope.rows(slots) * rope.row_scales(slots)[:, None])[:, None]
        return _float_store(keys, True), _float_store(np.ascontiguousarray(heads[:, :, a.nope_dim :]), False)

    def _feed_forward(
        self,
        index: int,
        weights: LayerWeights,
        x: np.ndarray,
        precision: Precision,
        resident: np.ndarray,
        records: list[LayerRouting],
    ) -> None:
        """x += ffn(norm(x)): dense, or routed experts, then shared ones."""
        where = f"feed-forward of layer {index}"
        normed = self._kernels.norm(x, weights.ffn_norm, self._eps)
        if weights.dense is not None:
            rows.add_rows(x, self._kernels.networks(weights.dense, precision.dense, normed, where)[0])
            return
        logits = self._kernels.project(weights.router, precision.router, normed, f"router of layer {index}")
        record = self._route(index, weights, logits, resident)
        records.append(record)
        values, pair_of = self._kernels.networks(
            weights.experts, precision.experts, normed, where, record.chosen, self.config.moe
        )
        out = np.empty_like(x)
        rows.combine_experts(values, record.weights, pair_of, out)
        if weights.shared is not None:
            rows.add_rows(out, self._kernels.networks(weights.shared, precision.shared, normed, where)[0])
        rows.add_rows(x, out)

    def _route(self, index: int, weights: LayerWeights, logits: np.ndarray, resident: np.ndarray) -> LayerRouting:
        """The choice of experts, from the router's float32 [n, experts]."""
        router, n = self.config.moe.router, len(logits)
        scores = np.empty((n, router.experts), np.float32)
        wanted, chosen = np.empty((n, router.top_k), np.int32), np.empty((n, router.top_k), np.int32)
        shares = np.empty((n, router.top_k), np.float32)
        correction = weights.correction if router.correction else np.zeros(router.experts, np.float32)
        routing.route(
            logits, correction, resident, _ROUTER_KINDS[router.kind], router.renormalize, np.float32(router.scale),
            router.groups, router.chosen_groups, router.group_score is GroupScore.TOP2_SUM,
            scores, wanted, chosen, shares,
        )  # fmt: skip
        return LayerRouting(index, scores, wanted, chosen, shares)


def _float_store(x: np.ndarray, transposed: bool) -> HeadStore:
    """Heads float32 [slots, heads, d] laid out for attention, as they are."""
    store = HeadStore(x.shape[1], x.shape[2], transposed, KvFormat.FP32)
    store.write(0, x)
    return store
