"""Trees, hot set, traffic and statistics, against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest

from hw.errors import UserError
from sw_stack.elastic.accept import Accepted, follow
from sw_stack.elastic.drafters.protocol import DraftPass, WeightReads
from sw_stack.elastic.hb_share import HbShare
from sw_stack.elastic.hot_set import HotSet, capacity_of_fraction, count_routing, expert_sizes
from sw_stack.elastic.statistics import SpeculationStatistics
from sw_stack.elastic.time_predictor import PassWork
from sw_stack.elastic.traffic import TrafficMeter, matrix_weights, resident_bytes
from sw_stack.elastic.tree import MostProbable, TokenTree, TreeShape, grow
from sw_stack.models.runtime import LayerRouting
from verification.stack.elastic_models import moe_runtime

CONFIG = moe_runtime().config  # 3 MoE layers of 8 experts, top-2, 64 x 32: 6144 weights an expert
MSB, LSB = 6144 * 9 // 16, 6144 // 2


def hot_set(experts: int, **options) -> HotSet:
    """A set with room for so many MSB slices per layer."""
    return HotSet(CONFIG, experts * MSB, **options)


def routing(chosen: list[list[int]], wanted: list[list[int]] | None = None) -> list[LayerRouting]:
    """The same routing in all three layers; rows are tokens, -1 an empty slot."""
    rows = np.array(chosen, np.int32)
    want = np.array(wanted or chosen, np.int32)
    scores = np.full((len(rows), 8), 0.125, np.float32)
    weights = np.full(rows.shape, 0.5, np.float32)
    return [LayerRouting(layer, scores, want, rows, weights) for layer in range(3)]


# --- trees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "depth", "width"), [("5", 5, 1), ("2x4", 2, 4), (" 0 ", 0, 1)])
def test_shapes_are_read(text: str, depth: int, width: int) -> None:
    """DEPTH is a chain, DEPTHxWIDTH a tree."""
    shape = TreeShape.parse(text)
    assert (shape.depth, shape.width, shape.nodes) == (depth, width, depth * width)


@pytest.mark.parametrize("text", ["", "x", "2x", "-1", "2x0", "1.5", "300", "20x20", "²"])
def test_wrong_shapes_are_refused(text: str) -> None:
    """One line that says what a tree must be."""
    with pytest.raises(UserError, match="tree must be"):
        TreeShape.parse(text)


class Table:
    """A draft over 4 tokens whose logits are the logarithms of given probabilities, by last token."""

    def __init__(self, root: list[float], after: dict[int, list[float]]) -> None:
        self._root, self._after = root, after

    def begin(self, sequences: list) -> list[np.ndarray]:
        return [np.log(np.array([self._root], np.float32)) for _ in sequences]

    def extend(self, sequences: list, trees: list[TokenTree], nodes: list[list[int]]) -> list[np.ndarray]:
        return [
            np.log(np.array([self._after[tree.tokens[node]] for node in level], np.float32))
            for tree, level in zip(trees, nodes, strict=True)
        ]


def test_the_most_probable_paths_are_kept() -> None:
    """Worked by hand: root .5 .3 .1 .1; after token 0 flat, after 1 .97. Best paths: 1-2 (.291), then 0-0 (.125)."""
    draft = Table([0.5, 0.3, 0.1, 0.1], {0: [0.25] * 4, 1: [0.01, 0.01, 0.97, 0.01]})
    (tree,) = grow(draft, [None], [9], [TreeShape(2, 2)], [MostProbable()])
    assert tree.tokens == [9, 0, 1, 2, 0]
    assert tree.parents == [-1, 0, 0, 2, 1]
    assert tree.depths == [0, 1, 1, 2, 2]
    assert tree.children(0) == [1, 2]


def test_sequences_of_different_depth_grow_together() -> None:
    """Depths 0, 1 and 2 in one batch: each as deep as asked."""
    draft = Table([0.4, 0.3, 0.2, 0.1], {token: [0.4, 0.3, 0.2, 0.1] for token in range(4)})
    shapes = [TreeShape(0), TreeShape(1), TreeShape(2)]
    trees = grow(draft, [None] * 3, [5, 6, 7], shapes, [MostProbable() for _ in shapes])
    assert [tree.tokens for tree in trees] == [[5], [6, 0], [7, 0, 0]]


def test_the_longest_matching_path_is_followed() -> None:
    """Target says 1 then 3 then 0; the tree has 1-3 and 2: path of two, bonus 0."""
    tree = TokenTree([9])
    for token, parent in ((2, 0), (1, 0), (3, 2)):
        tree.add(token, parent)
    assert follow(tree, {0: 1, 2: 3, 3: 0}.get) == Accepted([2, 3], 0)
    assert follow(tree, {0: 0}.get) == Accepted([], 0)


# --- hot set ---------------------------------------------------------------------------------------------------


def test_the_hottest_experts_are_kept_and_ties_go_to_the_lower_id() -> None:
    """Counts 0 5 2 2 9 2 0 2 with room for three: experts 4, 1 and, of the four with 2, the lowest."""
    chosen = hot_set(3)
    chosen.fill(np.tile([0, 5, 2, 2, 9, 2, 0, 2], (3, 1)), 11)
    assert np.flatnonzero(chosen.mask()[1]).tolist() == [1, 2, 4]
    assert chosen.resident.sum() == 9


def test_counts_are_of_the_unrestricted_choice() -> None:
    """What residents were used instead does not count."""
    counts = count_routing(routing([[6, 7], [6, -1]], wanted=[[0, 1], [1, 2]]), 8)
    assert counts.tolist() == [[1, 2, 1, 0, 0, 0, 0, 0]] * 3


def test_verification_reads_the_old_set_and_slots_change_behind_the_last_read() -> None:
    """After fix_next the old set is read; after replace the layer may not be read in this pass; then the new set is."""
    chosen = hot_set(2)
    chosen.fill(np.tile([9, 9, 0, 0, 0, 0, 0, 0], (3, 1)), 9)
    chosen.fix_next(np.tile([0, 0, 9, 9, 0, 0, 0, 0], (3, 1)), 9)
    assert chosen.read(0, np.arange(4))[:, 0].tolist() == [True, True, False, False]
    chosen.replace(0, np.zeros((8, 2), bool))
    with pytest.raises(RuntimeError, match="overwritten before its last read"):
        chosen.read(0, np.arange(4))
    assert chosen.read(1, np.arange(2))[:, 0].all()  # other layers are untouched
    chosen.end_pass()
    assert chosen.read(0, np.arange(4))[:, 0].tolist() == [False, False, True, True]


def test_streamed_slices_enter_for_nothing() -> None:
    """Of two entering MSB slices one was streamed anyway: the other is paid for."""
    chosen = hot_set(2)
    chosen.fix_next(np.tile([0, 0, 9, 9, 0, 0, 0, 0], (3, 1)), 9)
    streamed = np.zeros((8, 2), bool)
    streamed[2] = True
    assert chosen.replace(0, streamed) == MSB
    assert (chosen.paid_bytes, chosen.free_bytes) == (MSB, MSB)


@pytest.mark.parametrize("policy", ["random", "static"])
def test_fixed_sets_do_not_move(policy: str) -> None:
    """Random and static sets ignore later counts; two seeds give two random sets."""
    chosen = hot_set(3, policy=policy, seed=1)
    chosen.fill(np.tile([1, 2, 3, 0, 0, 0, 0, 0], (3, 1)), 9)
    before = chosen.resident.copy()
    chosen.fix_next(np.tile([0, 0, 0, 0, 0, 7, 8, 9], (3, 1)), 9)
    assert chosen.replace(0, np.zeros((8, 2), bool)) == 0
    assert np.array_equal(chosen.resident, before)
    if policy == "random":
        assert not np.array_equal(hot_set(3, policy="random", seed=2).resident, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"policy": "hott"}, "did you mean hot"), ({"allocation": "lsb"}, "unknown allocation")],
)
def test_unknown_names_are_refused(options: dict, message: str) -> None:
    """With the nearest known one."""
    with pytest.raises(UserError, match=message):
        hot_set(2, **options)


def test_fractions_give_whole_slices() -> None:
    """0.4 of eight experts: three; beyond 0 to 1 is refused."""
    assert capacity_of_fraction(CONFIG, 0.4) == 3 * MSB
    assert (expert_sizes(CONFIG).msb_bytes, expert_sizes(CONFIG).lsb_bytes) == (MSB, LSB)
    with pytest.raises(UserError, match=r"0 to 1, not 1\.5"):
        capacity_of_fraction(CONFIG, 1.5)


# --- traffic ---------------------------------------------------------------------------------------------------


def meter(
    experts: int, reads: WeightReads | None = WeightReads.MSB_SLICES, own: int = 0, kv: int | None = None
) -> TrafficMeter:
    """With the first experts resident, and room for ``kv`` bytes of keys and values."""
    chosen = hot_set(experts)
    chosen.fill(np.tile(np.arange(8, 0, -1), (3, 1)), 36)
    return TrafficMeter(CONFIG, chosen, reads, own, HbShare(0, kv, experts * MSB))


def test_dense_weights_are_counted_by_hand() -> None:
    """Per layer q 64 x 64, k and v 32 x 64, o 64 x 64, router 8 x 64; the head 96 x 64; experts 8 x 3 x 64 x 32."""
    dense = 3 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 8 * 64) + 96 * 64
    assert meter(2).dense_weights == dense
    assert matrix_weights(CONFIG) == dense + 3 * 8 * 3 * 64 * 32


def test_bytes_of_a_target_pass() -> None:
    """Experts 0, 1 resident; a pass touches 0, 1, 5: two MSB slices from HB, two LSB and one whole from LPDDR."""
    one = meter(2)
    one.add_verify(routing([[0, 1], [1, 5]]), 2, 100)
    assert one.verify.hb_bytes == one.dense_weights * 8.5 / 8 + 3 * 2 * MSB + 100
    assert one.verify.lpddr_bytes == 3 * (2 * LSB + MSB + LSB)
    assert one.verify.slice_macs == 2 * (2 * one.dense_weights + 3 * 4 * 6144)
    assert (one.reads.touched, one.reads.hits, one.reads.layer_passes) == (9, 6, 3)


def test_bytes_of_an_elastic_draft_pass() -> None:
    """Upper slices of dense parts and of the residents used, all from HB; empty slots cost nothing."""
    one = meter(2)
    one.add_draft(DraftPass(2, routing([[0, 1], [1, -1]])), 50)
    assert one.draft.hb_bytes == (one.dense_weights + 3 * 2 * 6144) * 4.5 / 8 + 50
    assert one.draft.lpddr_bytes == 0
    assert one.draft.slice_macs == 2 * one.dense_weights + 3 * 3 * 6144


def test_bytes_of_a_draft_with_whole_dense_parts() -> None:
    """Both slices of dense parts: 8.5 bits and two slice products per weight; experts as before; expected likewise."""
    one = meter(2, WeightReads.MSB_EXPERTS)
    one.add_draft(DraftPass(1, routing([[0, 1]])), 0)
    expected = PassWork(one.dense_weights * 8.5 / 8 + 3 * 2 * MSB, 0.0, 2.0 * one.dense_weights + 3 * 2 * 6144)
    assert one.draft == expected
    one.hot_set.usage = np.tile([1.0, 1.0, 0, 0, 0, 0, 0, 0], (3, 1))
    assert one.expected_draft(1, 0) == expected


def test_bytes_of_the_separate_copy() -> None:
    """HB holds copies instead of the target's slices: the target's experts all come whole from LPDDR."""
    one = meter(2, WeightReads.COPY)
    one.add_draft(DraftPass(1, routing([[1, 5]])), 0)
    assert one.draft.lpddr_bytes == 3 * 6144 * 4.5 / 8
    one.add_verify(routing([[1, 5]]), 1, 0)
    assert one.verify.hb_bytes == one.dense_weights * 8.5 / 8
    assert one.verify.lpddr_bytes == 3 * 2 * (MSB + LSB)


def test_bytes_of_a_model_of_its_own() -> None:
    """A small model's weights, whole, from HB."""
    one = meter(2, WeightReads.OWN, 1000)
    one.add_draft(DraftPass(3, []), 0)
    assert one.draft == PassWork(1000 * 8.5 / 8, 0.0, 6000.0)


def test_expected_work_of_one_token_is_exact_where_usage_is_certain() -> None:
    """With two experts used by every token, expectation and account agree."""
    one = meter(2)
    one.hot_set.usage = np.tile([1.0, 0, 0, 0, 0, 1.0, 0, 0], (3, 1))
    expected = one.expected_verify(1, 7)
    one.add_verify(routing([[0, 5]]), 1, 7)
    assert expected == one.verify


def test_keys_and_values_take_hb_before_experts() -> None:
    """Of 10,000 bytes 4,000 are dense; keys and values want 1,200: three layers share 4,800. Wanting 9,000 they get
    6,000, experts nothing, and what is beyond spills; dense weights that do not fit are an error."""
    share = HbShare.of_capacity(10_000, 4_000, 1_200, 3)
    assert (share.kv, share.expert, share.spilled(1_200)) == (1_200, 1_600, 0)
    share = HbShare.of_capacity(10_000, 4_000, 9_000, 3)
    assert (share.kv, share.expert) == (6_000, 0)
    assert [share.spilled(kv) for kv in (0, 6_000, 6_001, 9_000)] == [0, 0, 1, 3_000]
    with pytest.raises(UserError, match="at least the dense weights of 4,000 bytes, not 3,999"):
        HbShare.of_capacity(3_999, 4_000, 0, 3)


def test_spilled_keys_and_values_are_read_from_lpddr() -> None:
    """Room for 60 of 100 bytes: draft, target pass and expectations move 40 from HB's bytes to LPDDR's."""
    whole, short = meter(2), meter(2, kv=60)
    for one in (whole, short):
        one.add_draft(DraftPass(1, routing([[0, 1]])), 100)
        one.add_verify(routing([[0, 5]]), 1, 100)
        one.add_verify(routing([[0, 5]]), 1, 30)
    moved = PassWork(-40.0, 40.0)
    assert short.draft == whole.draft + moved
    assert short.verify == whole.verify + moved
    assert short.expected_draft(1, 100) == whole.expected_draft(1, 100) + moved
    assert short.expected_verify(1, 100) == whole.expected_verify(1, 100) + moved
    assert (short.most_kv_bytes, short.most_spilled_bytes, whole.most_spilled_bytes) == (100, 40, 0)


def test_what_hb_holds_whole() -> None:
    """Dense weights in 8.5 bits; beside them a small model's own in 8.5, or the dense part of a copy in 4.5."""
    dense = meter(2).dense_weights
    assert resident_bytes(CONFIG, WeightReads.MSB_SLICES, 0) == resident_bytes(CONFIG, None, 0) == dense * 8.5 / 8
    assert resident_bytes(CONFIG, WeightReads.OWN, 800) == dense * 8.5 / 8 + 850
    assert resident_bytes(CONFIG, WeightReads.COPY, 10**6) == dense * 13 / 8


# --- statistics -----------------------------------------------------------------------------------------------


def test_acceptance_counts_what_was_reached() -> None:
    """Two rounds of a chain of 3, accepted 2 and 0: position 1 1 of 2, position 2 1 of 1, position 3 0 of 1."""
    one = SpeculationStatistics(1, 3)
    tree = TokenTree([0])
    for parent in range(3):
        tree.add(1, parent)
    one.add(0, tree, Accepted([1, 2], 5))
    one.add(0, tree, Accepted([], 5))
    assert one.tried.tolist() == [[2, 1, 1]]
    assert one.acceptance(3).tolist() == [0.5, 1.0, 0.0]
    assert one.accept_length == 2.0  # 3 and 1 tokens


def test_coverage_is_the_resident_share_of_the_wanted_mass() -> None:
    """Scores .5 .3 of the wanted two, the second not resident: .5 / .8."""
    record = routing([[0, -1]], wanted=[[0, 3]])[0]
    record.scores[0, [0, 3]] = 0.5, 0.3
    mask = np.zeros((3, 8), bool)
    mask[:, 0] = True
    one = SpeculationStatistics(1, 1)
    one.add_coverage([record], mask)
    assert one.coverage == pytest.approx(0.625)
