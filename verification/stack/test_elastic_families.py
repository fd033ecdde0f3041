"""Speculation on every model family that the loaders know: grouped and latent attention, biases, sinks, MXFP4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sw_stack.elastic.hot_set import expert_sizes
from sw_stack.elastic.methods import HotSetChoice, make_decoder
from sw_stack.elastic.rounds import Speculation
from sw_stack.elastic.tree import TreeShape
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.generation import decode_plain
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.sampling import SamplingConfig
from verification.stack.test_elastic_lossless import texts

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FAMILIES = ("deepseek_v2", "glm4_moe", "glm4_moe_lite", "gpt_oss", "qwen3_moe")
TOKENS = 10


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_lossless(family: str) -> None:
    """Elastic-SD and Quant-SD with a tree and with a chain give the text of plain decoding."""
    runtime = Runtime(QuantizedModel(open_checkpoint(GOLDEN / family)))
    rng = np.random.default_rng(1)
    given = [list(map(int, rng.integers(1, runtime.config.vocab, n))) for n in (3, 6)]
    reference = texts(decode_plain(runtime, given, TOKENS, SamplingConfig(), 0), 2)
    for method in ("elastic", "quant"):
        for shape in ("4", "2x3"):
            speculation = Speculation(TreeShape.parse(shape))
            decoder = make_decoder(runtime, method, speculation, HotSetChoice(fraction=0.5), batch=2)
            assert texts(decoder.decode(given, TOKENS, SamplingConfig(), 0), 2) == reference
            assert decoder.statistics.drafted_rounds > 0


def test_mxfp4_experts_have_one_slice() -> None:
    """4.25 bits per weight, all in the one slice; nothing is left for LPDDR to add."""
    runtime = Runtime(QuantizedModel(open_checkpoint(GOLDEN / "gpt_oss")))
    moe = runtime.config.moe
    sizes = expert_sizes(runtime.config)
    assert sizes.msb_bytes == 3 * moe.intermediate * runtime.config.hidden * 17 // 32
    assert sizes.lsb_bytes == 0
