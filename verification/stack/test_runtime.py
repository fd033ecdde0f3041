"""The runtime: every token's logits have the same bits in any company; float and quantised paths agree."""

from __future__ import annotations

import numpy as np
import pytest

from cycle_model.numerics import project, quantize_activations, quantize_weights
from hw.errors import UserError
from sw_stack.models.float_reference import FloatReference
from sw_stack.models.kv_cache import KvFormat
from sw_stack.models.precision import DRAFT, DRAFT_EXPERTS, FULL, Precision, WeightScheme
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.tensor_source import ArraySource
from verification.bench.tiny_models import FAMILIES, VOCAB, model, source

FLOAT = Precision.uniform(WeightScheme.FLOAT)


def tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def prefilled(runtime: Runtime, prompt: list[int]):
    cache = runtime.new_cache()
    runtime.forward([Segment(cache, prompt)], logits="none")
    cache.commit()
    return cache


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_float_path_agrees_with_the_float_reference(family):
    """Whole model unquantised, FP32 cache, 300 tokens (two blocks, far past the window): within 1e-5 of the largest."""
    runtime = Runtime(model(family), kv_format=KvFormat.FP32)
    prompt = tokens(300, 1)
    got = runtime.forward([Segment(runtime.new_cache(), prompt)], precision=FLOAT).logits
    want = FloatReference(source(family)).logits(prompt)
    assert want.std() > 1  # a model whose logits hardly move would show nothing
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kv_format", [KvFormat.INT8, KvFormat.FP16])
def test_logits_do_not_depend_on_the_batch(family, kv_format, monkeypatch):
    """16 sequences of lengths 1 to 290 in one pass, in reversed order, each alone, and token by token: same bits.

    The first pass splits all its work over three threads, the others run on one.
    """
    monkeypatch.setattr("sw_stack.models.threads.WORTH_A_THREAD", 0)
    runtime, threaded = (Runtime(model(family), kv_format=kv_format, threads=n) for n in (1, 3))
    prompts = [tokens(1 + (i * i * 290) // 225, i) for i in range(16)]
    together = threaded.forward([Segment(threaded.new_cache(), p) for p in prompts], logits="last").logits
    turned = runtime.forward([Segment(runtime.new_cache(), p) for p in prompts[::-1]], logits="last").logits
    assert same_bits(together, np.ascontiguousarray(turned[::-1]))
    for i in (0, 3, 9):
        alone = runtime.forward([Segment(runtime.new_cache(), prompts[i])], logits="last").logits
        assert same_bits(together[i : i + 1], alone)
        cache = runtime.new_cache()
        for token in prompts[i]:
            step = runtime.forward([Segment(cache, [token])])
            cache.commit()
        assert same_bits(together[i : i + 1], step.logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_decode_batch_of_16(family):
    """One more token for each of 16 sequences, together and one by one: the same bits, full and draft."""
    runtime = Runtime(model(family))
    caches = [prefilled(runtime, tokens(5 + 3 * i, i)) for i in range(16)]
    new = tokens(16, 99)
    for precision in (FULL, DRAFT):
        pairs = list(zip(caches, new, strict=True))
        together = runtime.forward([Segment(c, [t]) for c, t in pairs], precision=precision).logits
        for cache in caches:
            cache.discard()
        for row, (cache, token) in enumerate(pairs):
            alone = runtime.forward([Segment(cache, [token])], precision=precision).logits
            cache.discard()
            assert same_bits(together[row : row + 1], alone)


# A tree: 0 and 1 follow the sequence; 2, 3 follow 0; 4 follows 1; 5 follows 3; 6 follows 4.
TREE = [-1, -1, 0, 0, 1, 3, 4]
PATHS = [[0], [1], [0, 2], [0, 3], [1, 4], [0, 3, 5], [1, 4, 6]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("committed", [3, 20, 254])
def test_tree_nodes_have_the_bits_of_their_own_sequence(family, committed):
    """Every node of a tree equals the end of its root path run as the only sequence, also across a block boundary."""
    runtime = Runtime(model(family))
    prompt, nodes = tokens(committed, 5), tokens(len(TREE), 6)
    cache = prefilled(runtime, prompt)
    other = prefilled(runtime, tokens(9, 7))
    tree = runtime.forward([Segment(other, tokens(2, 8)), Segment(cache, nodes, TREE)]).logits[2:]
    for node, path in enumerate(PATHS):
        alone = prefilled(runtime, prompt)
        chain = runtime.forward([Segment(alone, [nodes[i] for i in path])]).logits
        assert same_bits(tree[node : node + 1], np.ascontiguousarray(chain[-1:]))


def test_slot_order_does_not_matter():
    """The same tree with its nodes in another order: each node keeps its bits."""
    runtime = Runtime(model("gpt_oss"))
    prompt, nodes = tokens(250, 5), tokens(len(TREE), 6)
    first = runtime.forward([Segment(prefilled(runtime, prompt), nodes, TREE)]).logits
    order = [1, 4, 0, 3, 6, 2, 5]
    place = {node: i for i, node in enumerate(order)}
    parents = [-1 if TREE[node] < 0 else place[TREE[node]] for node in order]
    turned = runtime.forward([Segment(prefilled(runtime, prompt), [nodes[i] for i in order], parents)]).logits
    assert same_bits(np.ascontiguousarray(first[order]), turned)


def test_tree_grown_level_by_level():
    """A draft adds nodes in several passes: the same bits as in one."""
    runtime = Runtime(model("qwen3_moe"))
    prompt, nodes = tokens(12, 5), tokens(len(TREE), 6)
    whole = runtime.forward([Segment(prefilled(runtime, prompt), nodes, TREE)]).logits
    cache = prefilled(runtime, prompt)
    parts = [runtime.forward([Segment(cache, nodes[a:b], TREE[a:b])]).logits for a, b in ((0, 2), (2, 5), (5, 7))]
    assert cache.pending == 7 and same_bits(whole, np.concatenate(parts))


@pytest.mark.parametrize("family", FAMILIES)
def test_committed_path_continues_as_if_it_had_been_decoded(family):
    """After committing nodes 0, 3, 5 of a tree, decoding goes on with the bits of plain decoding."""
    runtime = Runtime(model(family))
    prompt, nodes = tokens(253, 5), tokens(len(TREE), 6)
    cache = prefilled(runtime, prompt)
    runtime.forward([Segment(cache, nodes, TREE)])
    cache.commit([0, 3, 5])
    assert (cache.length, cache.pending) == (256, 0)
    plain = prefilled(runtime, [*prompt, *(nodes[i] for i in (0, 3, 5))])
    after = [runtime.forward([Segment(c, [7, 8])]).logits for c in (cache, plain)]
    assert same_bits(*after)


def test_discarded_draft_leaves_no_trace():
    """A draft pass whose nodes are discarded changes no later logits."""
    runtime = Runtime(model("qwen3_moe"))
    cache, clean = (prefilled(runtime, tokens(30, 5)) for _ in range(2))
    runtime.forward([Segment(cache, tokens(7, 6), TREE)], precision=DRAFT)
    cache.discard()
    assert same_bits(*(runtime.forward([Segment(c, [1, 2])]).logits for c in (cache, clean)))


# --- precision ---------------------------------------------------------------------------------------------


def test_head_projection_has_the_bits_of_the_numerics():
    """INT8 and augmented logits of given hidden rows equal ``numerics.project`` of the normed rows."""
    runtime = Runtime(model("qwen3_moe"))
    result = runtime.forward([Segment(runtime.new_cache(), tokens(4, 1))])
    features = quantize_activations(runtime.features(result.hidden))
    weights = quantize_weights(source("qwen3_moe").load("head"))
    assert same_bits(result.logits, project(weights, features))
    assert same_bits(runtime.logits(result.hidden, DRAFT), project(weights, features, draft=True))


@pytest.mark.parametrize("scheme", [s for s in WeightScheme if s is not WeightScheme.INT8])
def test_schemes_are_chosen_per_projection(scheme):
    """Each kind of projection reacts to its own scheme, and a repeated pass gives the same bits."""
    runtime = Runtime(model("glm4_moe_lite"))

    def logits(**kinds) -> np.ndarray:
        precision = Precision(**kinds)
        return runtime.forward([Segment(runtime.new_cache(), tokens(9, 2))], precision=precision).logits

    target = logits()
    for kind in ("attention", "dense", "shared", "experts", "head"):
        changed = logits(**{kind: scheme})
        assert not same_bits(target, changed)
        assert same_bits(changed, logits(**{kind: scheme}))


def test_four_bit_drafts_err_as_expected():
    """On matrices drawn evenly the own copy errs least, truncation (a bias of half a coarse step) most."""
    runtime = Runtime(model("qwen3_moe"))
    prompt = tokens(60, 3)

    def run(scheme: WeightScheme) -> np.ndarray:
        return runtime.forward([Segment(runtime.new_cache(), prompt)], precision=Precision(head=scheme)).logits

    target = run(WeightScheme.FLOAT)
    error = {s: np.abs(run(s) - target).mean() for s in WeightScheme}
    assert error[WeightScheme.INT8] < 0.2 * error[WeightScheme.COPY4]
    assert error[WeightScheme.COPY4] < error[WeightScheme.TRUNCATED]
    assert error[WeightScheme.AUGMENTED] < error[WeightScheme.TRUNCATED]


def test_mxfp4_experts_have_one_precision():
    """For MXFP4 experts the draft is the target; only other projections change."""
    runtime = Runtime(model("gpt_oss"))
    runs = [
        runtime.forward([Segment(runtime.new_cache(), tokens(20, 4))], precision=p).logits
        for p in (FULL, DRAFT_EXPERTS, DRAFT)
    ]
    assert same_bits(runs[0], runs[1]) and not same_bits(runs[0], runs[2])


# --- routing -----------------------------------------------------------------------------------------------


def _mask(family: str, residents: list[int]) -> np.ndarray:
    config = source(family).config
    mask = np.zeros((config.layers, config.experts), bool)
    mask[:, residents] = True
    return mask


@pytest.mark.parametrize("family", FAMILIES)
def test_all_resident_is_no_mask(family):
    """A mask of all experts changes no bit; every choice is the unrestricted one."""
    runtime = Runtime(model(family))
    free = runtime.forward([Segment(runtime.new_cache(), tokens(20, 4))])
    masked = runtime.forward([Segment(runtime.new_cache(), tokens(20, 4))], resident=_mask(family, list(range(8))))
    assert same_bits(free.logits, masked.logits)
    assert [record.layer for record in free.routing] == [
        i for i, moe in enumerate(source(family).config.moe_layers) if moe
    ]
    for record in free.routing:
        assert np.array_equal(record.wanted, record.chosen) and (np.diff(record.chosen) > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_residents_only(family):
    """With residents 1 and 6, nothing else is chosen; the unrestricted choice of the first MoE layer stays."""
    runtime = Runtime(model(family))
    free, masked = (
        runtime.forward([Segment(runtime.new_cache(), tokens(20, 4))], resident=mask)
        for mask in (None, _mask(family, [1, 6]))
    )
    assert np.array_equal(free.routing[0].wanted, masked.routing[0].wanted)
    for record in masked.routing:
        assert set(record.chosen.ravel().tolist()) <= {-1, 1, 6}


def test_no_resident_skips_the_routed_part():
    """Without residents the routed experts add nothing: the same logits as with all their down projections zero."""
    family = "qwen3_moe"
    src = source(family)
    runtime = Runtime(model(family))
    skipped = runtime.forward([Segment(runtime.new_cache(), tokens(6, 4))], resident=_mask(family, []))
    silent = {name: np.zeros_like(t) if name.endswith(".down") else t for name, t in src.tensors.items()}
    muted = Runtime(QuantizedModel(ArraySource(src.config, silent)))
    assert same_bits(skipped.logits, muted.forward([Segment(muted.new_cache(), tokens(6, 4))]).logits)
    assert all((record.chosen == -1).all() for record in skipped.routing)


# --- bad input ---------------------------------------------------------------------------------------------


def test_layers_need_not_be_kept():
    """Quantising each layer anew in every pass gives the same bits, and keeps none."""
    src = source("deepseek_v2")
    streaming = QuantizedModel(src, keep_layers=False)
    kept, lean = Runtime(model("deepseek_v2")), Runtime(streaming)
    runs = [r.forward([Segment(r.new_cache(), tokens(5, 1))]).logits for r in (kept, lean)]
    assert same_bits(*runs) and streaming.layer(0) is not streaming.layer(0)


def test_user_mistakes_are_one_line():
    """Tokens, parents, masks, contexts and caches that do not fit; the cache is as it was afterwards."""
    runtime = Runtime(model("qwen3_moe"))
    cache = prefilled(runtime, tokens(630, 1))
    config = runtime.config
    mistakes = [
        ([Segment(cache, [])], {}, "at least one token"),
        ([], {}, "at least one token"),
        ([Segment(cache, [VOCAB])], {}, f"0 to {VOCAB - 1}, not {VOCAB}"),
        ([Segment(cache, [-1])], {}, "not -1"),
        ([Segment(cache, [1, 2], [-1, 1])], {}, "parent of node 1"),
        ([Segment(cache, [1, 2], [-1])], {}, "parents must be given for 2 tokens"),
        ([Segment(cache, [1]), Segment(cache, [2])], {}, "must occur once"),
        ([Segment(cache, [1] * 11)], {}, f"{config.max_positions} positions, not reach 641"),
        ([Segment(cache, [1])], {"resident": np.ones((1, 8), bool)}, r"bool \(2, 8\)"),
        ([Segment(cache, [1])], {"logits": "some"}, "all, last or none"),
    ]
    for segments, options, message in mistakes:
        with pytest.raises(UserError, match=message) as error:
            runtime.forward(segments, **options)
        assert "\n" not in str(error.value)
        assert (cache.length, cache.pending) == (630, 0)
    runtime.forward([Segment(cache, [1, 2, 3], [-1, -1, 0])])
    for nodes in (None, [1, 2], [2], [3]):
        with pytest.raises(UserError, match="path"):
            cache.commit(nodes)


@pytest.mark.parametrize("name", ["layers.1.experts.3.up", "layers.0.q", "final_norm", "embedding", "layers.0.router"])
def test_weights_that_are_not_finite_name_their_tensor(name):
    """One NaN in any tensor is refused with the tensor's name."""
    src = source("qwen3_moe")
    broken = src.tensors[name].copy()
    broken.flat[7] = np.nan
    with pytest.raises(UserError, match=f"tensor '{name}'"):
        runtime = Runtime(QuantizedModel(ArraySource(src.config, src.tensors | {name: broken})))
        runtime.forward([Segment(runtime.new_cache(), [1])])
