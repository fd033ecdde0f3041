"""Small random models for the tests of speculative decoding: a MoE target, a dense draft model and an EAGLE head.

In memory with a vocabulary of 96; and as files with the shipped tokenizer, for tests of commands.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sw_stack.commands.generate_command import DEFAULT_MODEL
from sw_stack.elastic.drafters.eagle import HeadSource, head_shapes
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.hf_names import location
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.models.tensor_source import ArraySource, random_source

MOE = {
    "model_type": "qwen3_moe",
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 128,
}
_MOE_ONLY = ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob")
DENSE = {key: value for key, value in MOE.items() if key not in _MOE_ONLY} | {
    "model_type": "qwen3",
    "num_hidden_layers": 1,
    "intermediate_size": 64,
}


@cache
def moe_source() -> ArraySource:
    """The target's tensors."""
    return random_source(from_hf_config(MOE), 5)


@cache
def moe_runtime() -> Runtime:
    """The target."""
    return Runtime(QuantizedModel(moe_source()))


@cache
def dense_runtime() -> Runtime:
    """A small model with the target's vocabulary."""
    return Runtime(QuantizedModel(random_source(from_hf_config(DENSE), 6)))


@cache
def head_source() -> HeadSource:
    """A head of the target."""
    config = from_hf_config(DENSE)
    rng = np.random.default_rng(7)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) * 0.2 for name, shape in head_shapes(config).items()}
    return HeadSource(config, tensors, moe_source())


def write_models(folder: Path) -> Path:
    """Random target, small dense model and EAGLE head below ``folder``; returns the target's folder."""
    target = folder / "tiny"
    vocab = {"vocab_size": 1024}
    _write_checkpoint(target, MOE | vocab, 1)
    shutil.copy(DEFAULT_MODEL / "tokenizer.json", target)
    _write_checkpoint(folder / "tiny-draft-dense", DENSE | vocab, 2)
    config = from_hf_config(DENSE | vocab)
    rng = np.random.default_rng(3)
    tensors = {}
    for name, shape in head_shapes(config).items():
        stored = "fc.weight" if name == "fc" else location(config, name, shape).name.removeprefix("model.")
        tensors[stored] = (rng.standard_normal(shape) * 0.2).astype(np.float16)
    head = folder / "tiny-draft-eagle"
    head.mkdir()
    save_file(tensors, head / "model.safetensors")
    (head / "config.json").write_text(json.dumps(DENSE | vocab | {"model_type": "elmoe_eagle"}))
    return target


def _write_checkpoint(folder: Path, values: dict, seed: int) -> None:
    source = random_source(from_hf_config(values), seed)
    folder.mkdir()
    tensors = {
        location(source.config, name, tensor.shape).name: tensor.astype(np.float16)
        for name, tensor in source.tensors.items()
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))


def prompts(count: int, seed: int, lengths: tuple[int, int] = (2, 12)) -> list[list[int]]:
    """Random prompts of different lengths."""
    rng = np.random.default_rng(seed)
    return [list(map(int, rng.integers(0, MOE["vocab_size"], rng.integers(*lengths)))) for _ in range(count)]
