"""The dispatch stream executed: logits of the compiled functional program have the runtime's bits, for every family.

The stream that is executed is the one that the engine times; a whole decode step is one program for each PE, and all
levels agree on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.errors import UserError
from hw.params import chip
from rtl_gen.compiled_pe import run_compiled
from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.compiler.dispatch import Dispatch, Kernel, Precision, Tier
from sw_stack.compiler.functional_runtime import CompiledRuntime
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.machines.catalogue import machine
from sw_stack.machines.engine.engine import Engine
from sw_stack.machines.engine.workload import Pass, PassKind
from sw_stack.models.batch import StepResult
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.precision import DRAFT, FULL
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.sampling import SamplingConfig
from sw_stack.models.tensor_source import random_source
from sw_stack.workloads.routing_source import expert_tokens
from verification.programs.equality import MODELS, Compared, assert_levels_equal, compare, run_level
from verification.programs.expert_cases import with_hb_rows

GOLDEN = Path(__file__).parents[1] / "golden"
PUBLISHED = machine("elmoe3d-4gb")
TINY = replace(PUBLISHED, chip=with_hb_rows(chip("tiny"), 1024))
"""The proposed machine with the smallest PE that has every mechanism."""
PROMPT = [17, 300, 45, 801, 12]


@cache
def shipped() -> QuantizedModel:
    """The shipped model."""
    return QuantizedModel(open_checkpoint(DEFAULT_MODEL))


def decoded(runtime: Runtime, method: str, tokens: int, shape: TreeShape) -> tuple[list[int], list[np.ndarray]]:
    """Text, and the bits of the logits of every forward pass: prefill, drafts, decoding, verification."""
    logits: list[np.ndarray] = []
    forward = runtime.forward

    def noted(*args, **kwargs):
        result = forward(*args, **kwargs)
        logits.append(result.logits.view(np.uint32))
        return result

    runtime.forward = noted
    decoder = make_decoder(runtime, method, Speculation(shape), HotSetChoice(fraction=0.5), batch=1)
    text = [token for part in decoder.decode([PROMPT], tokens, SamplingConfig(), 0) for token in part.tokens]
    return text, logits


def assert_same_bits(method: str, tokens: int, shape: TreeShape, *, in_hb: bool = True) -> None:
    """Both runtimes decode; every pass's logits are compared. MSB slices of all experts are in HB, or of none."""
    text, expected = decoded(Runtime(shipped()), method, tokens, shape)
    resident = np.zeros((6, 32, 2), bool)
    resident[:, :, 0] = in_hb
    compiled = CompiledRuntime(shipped(), PUBLISHED, pes=2, resident=resident)
    compiled_text, found = decoded(compiled, method, tokens, shape)
    assert compiled_text == text and len(text) == tokens
    assert len(found) == len(expected) >= tokens // (shape.depth + 1)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"forward pass {number}")
    values = sum(one.size for one in found)
    executor = compiled.executor
    print(
        f"{method}: {len(found)} passes, {values:,} logits equal, {executor.programs:,} programs, "
        f"{executor.commands:,} commands"
    )
    assert values > 0 and executor.programs >= 40 * len(found)


@pytest.mark.parametrize("in_hb", [True, False])
def test_plain_decoding_has_the_runtimes_bits(in_hb):
    """Prefill and two steps of one sequence, MSB slices of experts from HB or over the stream link."""
    assert_same_bits("none", 3, TreeShape(0), in_hb=in_hb)


def test_elastic_decoding_has_the_runtimes_bits():
    """Draft passes on MSB slices of resident experts, and verification of the chain, in both slices."""
    assert_same_bits("elastic", 3, TreeShape(2))


@pytest.mark.full
def test_32_steps_of_plain_decoding():
    """32 tokens."""
    assert_same_bits("none", 32, TreeShape(0))


@pytest.mark.full
@pytest.mark.parametrize("shape", [TreeShape(5), TreeShape(4, 2)])
def test_32_tokens_of_elastic_decoding(shape):
    """32 tokens with the default chain, and with a tree."""
    assert_same_bits("elastic", 32, shape)


def golden(family: str) -> QuantizedModel:
    """A small checkpoint of a model family."""
    return QuantizedModel(open_checkpoint(GOLDEN / family))


def two_sequences(runtime: Runtime, prompt: list[int], **options) -> list[StepResult]:
    """A pass over a prompt in each of two sequences, and a decode step."""
    caches = [runtime.new_cache() for _ in range(2)]
    results = []
    for tokens in (prompt, [9]):
        segments = [Segment(each, [token + i for token in tokens]) for i, each in enumerate(caches)]
        results.append(runtime.forward(segments, **options))
        for each in caches:
            each.commit()
    return results


def assert_equal_steps(model: QuantizedModel, compiled: CompiledRuntime, prompt: list[int], **options) -> None:
    """Logits and last hidden rows of `two_sequences` are the runtime's."""
    for one, other in zip(
        two_sequences(Runtime(model), prompt, **options), two_sequences(compiled, prompt, **options), strict=True
    ):
        for name in ("logits", "hidden"):
            np.testing.assert_array_equal(*(getattr(each, name).view(np.uint32) for each in (one, other)))


@pytest.mark.parametrize("family", ["glm4_moe", "deepseek_v2", "gpt_oss"])
@pytest.mark.parametrize("precision", [FULL, DRAFT], ids=["full", "draft"])
def test_families_have_the_runtimes_bits(family, precision):
    """GQA and MLA, dense and shared networks, biases, MXFP4 experts with the clamped form, sliding windows."""
    model = golden(family)
    whole = np.zeros((sum(model.config.moe_layers), model.config.experts, 2), bool)
    whole[:, ::3] = True  # both slices in HB
    whole[:, 1::3, 0] = True  # the MSB slice; the others are not resident
    compiled = CompiledRuntime(model, TINY, resident=whole)
    assert_equal_steps(model, compiled, [3, 5, 7], precision=precision)
    assert compiled.executor.programs >= 16


@pytest.mark.full
@pytest.mark.parametrize("family", ["qwen3_moe", "glm4_moe_lite"])
def test_other_families_have_the_runtimes_bits(family):
    """The two left, on one PE and on four."""
    for pes in (1, 4):
        model = golden(family)
        assert_equal_steps(model, CompiledRuntime(model, TINY, pes=pes), [3, 5, 7, 11, 2])


# --- the stream ------------------------------------------------------------------------------------------------


def executed_step(change: Callable[[np.ndarray], None] | None = None) -> tuple[CompiledRuntime, StepResult]:
    """A decode step of two sequences of a small model, its stream perhaps changed before it is executed."""
    compiled = CompiledRuntime(golden("glm4_moe"), TINY)
    if change is not None:
        original = compiled.compiled

        def changed(one: Pass) -> Dispatch:
            stream = original(one)
            if one.kind is PassKind.DECODE:
                change(stream.records)
            return stream

        compiled.compiled = changed
    return compiled, two_sequences(compiled, [3, 5, 7])[1]


def test_the_stream_that_is_executed_is_the_one_that_is_timed():
    """Records of the executed stream are, byte for byte, those that the engine compiles for the step's routing, and
    replaying them takes the same time."""
    compiled, result = executed_step()
    config = compiled.config
    one = Pass(
        kind=PassKind.DECODE,
        tokens=[1, 1],
        kv_lengths=[3, 3],
        expert_tokens=expert_tokens(np.stack([layer.chosen for layer in result.routing], axis=1), config.experts),
        resident=compiled.placed(),
    )
    engine, again = (Engine(TINY, config, mapping="output-parallel") for _ in range(2))
    timed = engine.run(one)
    assert timed.dispatch.records.tobytes() == compiled.dispatch.records.tobytes()
    assert timed.dispatch.names == compiled.dispatch.names
    assert again.replay(compiled.dispatch).ns == timed.ns
    assert (compiled.dispatch.records["kernel"] == Kernel.EXPERT).sum() >= 4


@pytest.mark.parametrize(
    ("field", "value", "bits"),
    [("precision", Precision.DRAFT, "other"), ("msb_tier", Tier.LPDDR, "same"), ("tokens", 3, None)],
)
def test_a_changed_record_changes_what_is_executed_and_timed(field, value, bits):
    """Of one projection: another precision gives other logits, another tier the same from other programs, another
    number of tokens is refused; the engine's time changes with each."""

    def change(records: np.ndarray) -> None:
        at = np.flatnonzero((records["kernel"] == Kernel.PROJECTION) & (records["activated"] == 0))[0]
        records[field][at] = value
        if field == "msb_tier":
            records["lsb_tier"][at] = value

    plain, expected = executed_step()
    changed = plain.dispatch.records.copy()
    change(changed)
    engines = [Engine(TINY, plain.config, mapping="output-parallel") for _ in range(2)]
    times = [
        e.replay(Dispatch(r, plain.dispatch.names)).ns
        for e, r in zip(engines, (plain.dispatch.records, changed), strict=True)
    ]
    assert times[0] != times[1]
    if bits is None:
        with pytest.raises(UserError, match="must be"):
            executed_step(change)
        return
    compiled, result = executed_step(change)
    assert (result.logits != expected.logits).any() == (bits == "other")
    assert [p.dispatch for p in compiled.step_programs()] != [p.dispatch for p in plain.step_programs()]


def test_records_that_are_not_the_routers_choice_are_refused():
    """An expert's records renamed: the runtime that walks the stream says so."""

    def change(records: np.ndarray) -> None:
        chosen = np.flatnonzero(records["kernel"] == Kernel.EXPERT)
        if len(chosen):
            first = records["expert"][chosen[0]]
            records["expert"][chosen[records["expert"][chosen] == first]] = -1

    with pytest.raises(UserError, match="must be"):
        executed_step(change)


def test_a_wrong_bit_is_seen():
    """One code of one expert changed in the compiled model only: the logits differ."""
    runtime, compiled = Runtime(shipped()), CompiledRuntime(shipped(), PUBLISHED, pes=2)
    original = compiled.network

    def changed(weights, number=0):
        expert = original(weights, number)
        expert.down.q[0, 0] ^= 1
        return expert

    compiled.network = changed
    _, expected = decoded(runtime, "none", 1, TreeShape(0))
    _, found = decoded(compiled, "none", 1, TreeShape(0))
    assert (found[0] != expected[0]).any()


# --- a whole decode step as one program per PE --------------------------------------------------------------------


def small_model() -> QuantizedModel:
    """Two layers with GQA, a dense network and then routed and shared experts, and a head, as small as groups allow."""
    values = json.loads((GOLDEN / "glm4_moe" / "config.json").read_text())
    values |= {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 32}
    values |= {"n_routed_experts": 4, "num_experts_per_tok": 1}
    return QuantizedModel(random_source(from_hf_config(values), 5))


def test_a_decode_step_as_one_program_on_all_levels():
    """Two sequences on two PEs: functional, exact and fast agree on both PEs' programs, RTL on the second one's."""
    compiled = CompiledRuntime(small_model(), TINY)
    assert_equal_steps(compiled.model, compiled, [3, 5])
    programs = compiled.step_programs()
    assert len(programs) == 2
    compared = assert_levels_equal(programs[0]) + assert_levels_equal(programs[1], (*MODELS, "rtl"))
    print(f"{len(programs)} programs: {compared}")
    assert compared.values >= 400 and compared.times > 5000


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("family", ["glm4_moe", "deepseek_v2", "gpt_oss"])
def test_whole_decode_steps_on_all_levels(family):
    """Models of 2 to 3 layers, two sequences, both PEs' whole steps: also on the Verilog that Verilator compiled."""
    model, total = golden(family), Compared()
    compiled = CompiledRuntime(model, TINY)
    assert_equal_steps(model, compiled, [3, 5, 7])
    cycles = []
    for program in compiled.step_programs():
        results = [*(run_level(program, level) for level in MODELS), run_compiled(program)]
        total += compare(results)
        cycles.append(results[-1].cycles)
    print(f"{family}: {cycles} cycles; {total}")
    assert total.values >= 1000 and total.times > 5000
