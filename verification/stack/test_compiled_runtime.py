"""The shipped model as PE programs: logits of the compiled functional program have the runtime's bits."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cycle_model.pe.functional import functional
from hw.isa.program import PeProgram
from hw.params import chip
from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.compiler import functional_runtime
from sw_stack.compiler.functional_runtime import CompiledRuntime
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.sampling import SamplingConfig
from sw_stack.models.tensor_source import random_source
from verification.programs.equality import MODELS, Compared, assert_levels_equal
from verification.programs.expert_cases import with_hb_rows
from verification.stack.elastic_models import MOE

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


def assert_same_bits(method: str, tokens: int, shape: TreeShape, tier: str = "hb") -> None:
    """Both runtimes decode; every pass's logits are compared."""
    text, expected = decoded(Runtime(shipped()), method, tokens, shape)
    compiled = CompiledRuntime(shipped(), chip("4gb"), tier=tier)
    compiled_text, found = decoded(compiled, method, tokens, shape)
    assert compiled_text == text and len(text) == tokens
    assert len(found) == len(expected) >= tokens // (shape.depth + 1)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"forward pass {number}")
    values = sum(one.size for one in found)
    executed = compiled.executed
    print(
        f"{method}: {len(found)} passes, {values:,} logits equal, {executed.programs:,} programs, "
        f"{executed.commands:,} commands"
    )
    assert values > 0 and executed.programs >= 31 * len(found) // 2


@pytest.mark.parametrize("tier", ["hb", "stream"])
def test_plain_decoding_has_the_runtimes_bits(tier):
    """Prefill and two steps of one sequence, MSB slices from HB or over the stream link."""
    assert_same_bits("none", 3, TreeShape(0), tier)


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


def step_programs(monkeypatch: pytest.MonkeyPatch, layers: int, sequences: int) -> list[PeProgram]:
    """Every program of a decode step of a random model with 8 experts a layer, on the tiny PE."""
    programs: list[PeProgram] = []

    def noted(program):
        programs.append(program)
        return functional(program)

    monkeypatch.setattr(functional_runtime, "functional", noted)
    model = QuantizedModel(random_source(from_hf_config(MOE | {"num_hidden_layers": layers}), 5))
    chip_with_room = with_hb_rows(chip("tiny"), 2048)
    runtimes = (Runtime(model), CompiledRuntime(model, chip_with_room, pes=1))
    caches = [[each.new_cache() for _ in range(sequences)] for each in runtimes]
    for step in (3, 7):  # a prefill of one token each, and the decode step
        programs.clear()
        results = []
        for runtime, own in zip(runtimes, caches, strict=True):
            segments = [Segment(cache, [step + i]) for i, cache in enumerate(own)]
            results.append(runtime.forward(segments, logits="all").logits.view(np.uint32))
            for segment in segments:
                segment.cache.commit()
        np.testing.assert_array_equal(*results)
    return programs


def test_a_decode_step_of_a_tiny_model_on_all_models(monkeypatch):
    """13 programs (3 layers of four, and the output matrix): functional, exact and fast agree in values and times."""
    programs = step_programs(monkeypatch, layers=3, sequences=2)
    assert len(programs) == 13
    compared = sum((assert_levels_equal(program) for program in programs), Compared())
    print(f"{len(programs)} programs: {compared}")
    assert compared.values >= 26 and compared.times > 5000


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_a_decode_step_of_a_tiny_model_on_rtl(monkeypatch):
    """One layer and one sequence, on all four levels (minutes in Amaranth's simulator)."""
    programs = step_programs(monkeypatch, layers=1, sequences=1)
    assert len(programs) == 5
    compared = sum((assert_levels_equal(program, (*MODELS, "rtl")) for program in programs), Compared())
    print(f"{len(programs)} programs, four levels: {compared}")
    assert compared.values >= 1000 and compared.times > 5000


def test_a_wrong_bit_is_seen():
    """One code of one expert changed in the compiled model only: the logits differ."""
    runtime, compiled = Runtime(shipped()), CompiledRuntime(shipped(), chip("4gb"))
    original = compiled._expert

    def changed(layer, number, weights):
        expert = original(layer, number, weights)
        if layer == 0:
            expert.down.q[0, 0] ^= 1
        return expert

    compiled._expert = changed
    _, expected = decoded(runtime, "none", 1, TreeShape(0))
    _, found = decoded(compiled, "none", 1, TreeShape(0))
    assert (found[0] != expected[0]).any()
