"""Model graph and dispatch stream: weights and bytes against independent counts, order, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.errors import UserError
from sw_stack.compiler.builder import kernel_for
from sw_stack.compiler.compile import Compiler
from sw_stack.compiler.dispatch import BARRIER, BEGIN, Kernel, Precision, Tier, is_product, load, save
from sw_stack.compiler.emit import Emitter
from sw_stack.compiler.graph import Projection, graph
from sw_stack.compiler.kernels.matrix import projection_blocks
from sw_stack.compiler.placement import Placement
from sw_stack.elastic.hb_share import HbShare
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.timeline import events, to_json
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.models.architectures import tensor_shapes
from sw_stack.models.catalogue import model
from verification.bench.engine_passes import random_pass, small_model

PAPER = ("qwen3-30b-a3b", "glm-4.7-flash", "deepseek-v2-lite", "gpt-oss-20b")


def _emitter(config, has_hb=True, kv=None) -> Emitter:
    return Emitter(graph(config), Placement(has_hb, HbShare(0, kv, 0)))


@pytest.mark.parametrize("name", PAPER)
def test_graph_holds_every_matrix_of_the_checkpoint_once(name):
    """Weights of all projections, each expert counted, are the checkpoint's matrices without the embedding table."""
    config = model(name).architecture()
    made = graph(config)
    projections = [op for ops in (made.begin, made.end) for op in ops if isinstance(op, Projection)]
    for layer in made.layers:
        projections += [op for op in (*layer.before, *layer.after) if isinstance(op, Projection)]
        projections += [op for op in layer.expert for _ in range(config.experts)]
    stored = sum(int(np.prod(s)) for n, s in tensor_shapes(config).items() if len(s) == 2 and n != "embedding")
    assert sum(op.weights for op in projections) == stored
    assert 0.9 < (stored + config.vocab * config.hidden) / model(name).params["total"] < 1.1


def test_bytes_of_a_qwen_step_by_hand():
    """One token, 8 experts a layer, everything in HB but LSB slices: 1.232 GB of dense weights, 4.5 + 4 bits each.

    Per layer q, k, v: 5,120 x 2,048, o: 2,048 x 4,096, router: 128 x 2,048; head 151,936 x 2,048; an expert
    3 x 2,048 x 768 weights.
    """
    config = model("qwen3-30b-a3b").architecture()
    counts = np.zeros((48, 128), np.int64)
    counts[:, :8] = 1
    resident = np.zeros((48, 128, 2), bool)
    resident[:, :, 0] = True
    one = Pass(kind=PassKind.DECODE, tokens=[1], kv_lengths=[0], expert_tokens=counts, resident=resident)
    dense = 48 * (5120 * 2048 + 2048 * 4096 + 128 * 2048) + 151936 * 2048
    expert = 3 * 2048 * 768
    r = _emitter(config).emit(one).records
    near = (r["msb_bytes"] * (r["msb_tier"] == Tier.HB)).sum() + (r["lsb_bytes"] * (r["lsb_tier"] == Tier.HB)).sum()
    far = (r["lsb_bytes"] * (r["lsb_tier"] == Tier.LPDDR)).sum()
    assert near == dense * 17 // 16 + 48 * 8 * expert * 9 // 16
    assert far == 48 * 8 * expert // 2
    assert (r["kernel"] == Kernel.EXPERT).sum() == 48 * 8 * 2


def test_a_draft_reads_no_lsb_slice_and_nothing_outside():
    """Every slice of a draft pass is an MSB slice in HB, but for the router, which is in full."""
    config, rng = small_model(), np.random.default_rng(0)
    r = _emitter(config).emit(random_pass(config, rng, PassKind.DRAFT)).records
    products = r[(r["kernel"] == Kernel.PROJECTION) | (r["kernel"] == Kernel.EXPERT)]
    router = products["outputs"] == config.experts
    assert router.sum() == config.layers
    assert (products["precision"][~router] == Precision.DRAFT).all()
    assert (products["lsb_tier"][~router] == Tier.NONE).all()
    assert (products["msb_tier"] == Tier.HB).all()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_records_need_only_records_before_them(seed):
    """``after`` and ``weights_known`` point backwards; a down projection needs its own expert's gate and up."""
    config, rng = small_model(), np.random.default_rng(seed)
    stream = _emitter(config).emit(random_pass(config, rng))
    r, at = stream.records, np.arange(len(stream))
    for name in ("after", "weights_known"):
        pointing = r[name] >= 0
        assert (r[name][pointing] < at[pointing]).all()
        assert np.isin(r[name][~pointing], (BEGIN, BARRIER)).all()
    down = np.flatnonzero((r["kernel"] == Kernel.EXPERT) & (r["activated"] == 0))
    up = r["after"][down]
    assert (r["expert"][up] == r["expert"][down]).all() and (r["activated"][up] == 1).all()
    assert (r["layer"][up] == r["layer"][down]).all()


def test_refill_pays_only_for_slices_that_were_not_streamed():
    """A slice that becomes resident is written to HB; it is read from LPDDR again where the pass did not stream it."""
    config = small_model(layers=1)
    counts = np.zeros((1, 16), np.int64)
    counts[0, 0] = 1
    old, new = np.zeros((1, 16, 2), bool), np.zeros((1, 16, 2), bool)
    new[0, :2, 0] = True  # expert 0 is streamed by this pass, expert 1 is not
    one = Pass(kind=PassKind.VERIFY, tokens=[1], kv_lengths=[9], expert_tokens=counts, resident=old, next_resident=new)
    r = _emitter(config).emit(one).records
    refill = r[r["kernel"] == Kernel.REFILL]
    msb = 3 * 512 * 256 * 9 // 16
    assert (refill["hb_bytes"].sum(), refill["lpddr_bytes"].sum()) == (2 * msb, msb)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_recorded_stream_is_read_back(tmp_path_factory, seed):
    """Round trip of records and names, without pickle."""
    config, rng = small_model(), np.random.default_rng(seed)
    stream = _emitter(config).emit(random_pass(config, rng))
    path = save(stream, tmp_path_factory.mktemp("dispatch") / "stream.npz")
    again = load(path)
    assert again.names == stream.names
    assert again.records.tobytes() == stream.records.tobytes()


def test_damaged_files_are_refused_in_one_line(tmp_path):
    """Missing, cut, foreign, changed: a UserError that names the file."""
    config, rng = small_model(), np.random.default_rng(0)
    path = save(_emitter(config).emit(random_pass(config, rng)), tmp_path / "stream.npz")
    content = path.read_bytes()
    with np.load(path) as file:
        parts = dict(file)
    parts["records"] = parts["records"].copy()
    parts["records"]["tokens"][0] += 1
    np.savez(tmp_path / "changed.npz", **parts)
    np.savez(tmp_path / "foreign.npz", magic=np.array("other"))
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    for name in ("changed.npz", "foreign.npz", "cut.npz", "absent.npz"):
        with pytest.raises(UserError, match=name) as found:
            load(tmp_path / name)
        assert "\n" not in str(found.value)


def test_timeline_slices_lie_in_the_pass_on_their_tracks():
    """Every slice has a resource's track, a name, and times within the pass; the file is JSON."""
    config, rng = small_model(), np.random.default_rng(1)
    engine = Engine(machine("elmoe3d-8gb"), config)
    engine.run(random_pass(config, rng, PassKind.DECODE))
    result = engine.run(random_pass(config, rng, PassKind.VERIFY))
    document = json.loads(to_json([events(result, "verify")]))
    slices = [e for e in document["traceEvents"] if e["ph"] == "X"]
    tracks = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    assert {"LPDDR", "HB", "array", "host"} <= {tracks[e["tid"]] for e in slices}
    assert any(e["name"] == "expert down L2 E3" or " L2 E" in e["name"] for e in slices)
    for e in slices:
        assert result.start_ns / 1e3 - 1e-3 <= e["ts"]
        assert e["ts"] + e["dur"] <= result.end_ns / 1e3 + 1e-3
        assert e["dur"] > 0


def test_every_product_is_tiled_and_mapped():
    """Units are the output tiles by hand (gate and up of a column are one), K blocks and mapping are set."""
    config, rng = small_model(), np.random.default_rng(2)
    compiled = Compiler(machine("elmoe3d-8gb"), config, mapping="split").compile(random_pass(config, rng))
    r, product = compiled.dispatch.records, is_product(compiled.dispatch.records)
    by_hand = {"query, key, value": 24, "output": 16, "router": 1, "expert gate, up": 8, "expert down": 16, "head": 64}
    names = np.array(compiled.dispatch.names)[r["operation"][product]]
    assert compiled.tiling["units"][product].tolist() == [by_hand[name] for name in names]
    assert (compiled.tiling["k_block"][product] > 0).all() and not compiled.tiling["units"][~product].any()
    assert set(compiled.mapping[product]) == {"split"}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_records_have_the_kernels_blocks(seed):
    """K blocks of records are those of the kernels that run them, where slices do not share a weight memory in HB."""
    made, rng = machine("elmoe3d-8gb"), np.random.default_rng(seed)
    config = small_model(hidden=32 * int(rng.integers(2, 32)), inter=32 * int(rng.integers(1, 30)))
    records = Compiler(made, config).compile(random_pass(config, rng)).dispatch.records
    products = records[is_product(records) & ~((records["msb_tier"] == Tier.HB) & (records["lsb_tier"] == Tier.HB))]
    modes = {Precision.FULL: "full", Precision.DRAFT: "draft"}
    for record in products:
        tier = "hb" if record["msb_tier"] == Tier.HB else "stream"
        kernel = kernel_for(made.chip, modes[record["precision"]], tier, int(record["inputs"]) // 32, "AL")
        assert kernel.k_block == record["k_block"]
        if record["kernel"] == Kernel.PROJECTION:
            assert record["token_blocks"] == projection_blocks(made.chip, kernel.slices)
    assert len(products)
