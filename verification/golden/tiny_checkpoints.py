"""Tiny checkpoints with every tensor drawn at random, in the layout that transformers itself writes.

Names, shapes and layout come from ``save_pretrained`` of an instance that transformers builds from the configuration;
only the values are ours. Needs torch and transformers (``pip install -e .[verify]``).
"""

from __future__ import annotations

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

disable_progress_bar()
set_verbosity_error()

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
SHARD_BYTES = 100_000
DRAW = {"gpt_oss": 1}
"""Of configurations in whose first draw some expert is chosen by no token: a later one in which all are."""


def _values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values that make logits spread, attention peak and routing vary.

    Matrices have variance gain^2 / inputs. Gains: 2.2 for queries and keys and where they come from latents, 3 for
    the head, 2 for routers and 1.4 elsewhere. Norms are uniform around 1; those of queries and keys up to 3.
    """
    if name.endswith(
        ("e_score_correction_bias", "router.bias")
    ):  # small enough that every expert is chosen by some token
        return 0.2 * rng.standard_normal(shape)
    if name.endswith(("bias", "sinks")):
        return 0.5 * rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        low, high = (1.0, 3.0) if "q_norm" in name or "k_norm" in name else (0.5, 1.5)
        return rng.uniform(low, high, shape)
    if "embed_tokens" in name:
        return rng.standard_normal(shape)
    if name.endswith(("experts.gate_up_proj", "experts.down_proj")):  # GPT-OSS: [experts, inputs, outputs]
        return 1.4 * shape[1] ** -0.5 * rng.standard_normal(shape)
    gain = 1.4
    if any(part in name for part in ("q_proj", "k_proj", "q_b_proj", "kv_b_proj", "kv_a_proj")):
        gain = 2.2
    elif "lm_head" in name:
        gain = 3.0
    elif name.endswith(("gate.weight", "router.weight")):
        gain = 2.0
    return gain * shape[-1] ** -0.5 * rng.standard_normal(shape)


def _layout(config: dict) -> dict[str, torch.Tensor]:
    """What transformers writes for this configuration, MXFP4 left out: stored name -> tensor."""
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(plain))
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def _packed(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """MXFP4 blocks and scales of GPT-OSS experts whose unpacked shape is [experts, inputs, outputs]."""
    experts, inputs, outputs = shape
    blocks = rng.integers(0, 256, (experts, outputs, inputs // 32, 16), dtype=np.uint8)
    scales = rng.integers(122, 126, (experts, outputs, inputs // 32), dtype=np.uint8)  # times 0.03 to 0.25
    return {f"{name}_blocks": torch.from_numpy(blocks), f"{name}_scales": torch.from_numpy(scales)}


def random_tensors(name: str, config: dict) -> dict[str, torch.Tensor]:
    """Every stored tensor of the configuration called ``name``, at random but always the same."""
    tensors: dict[str, torch.Tensor] = {}
    for stored, like in sorted(_layout(config).items()):
        rng = np.random.default_rng([zlib.crc32(f"{name} {stored}".encode()), DRAW.get(name, 0)])
        if "quantization_config" in config and stored.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors |= _packed(stored, tuple(like.shape), rng)
            continue
        values = torch.from_numpy(_values(stored, tuple(like.shape), rng).astype(np.float32))
        # The published files keep GLM's correction in FP32 whatever the rest is.
        exact = stored.endswith("e_score_correction_bias")
        tensors[stored] = values if exact else values.to(DTYPES[config["torch_dtype"]])
    return tensors


def write_checkpoint(folder: Path, config: dict, tensors: dict[str, torch.Tensor], sharded: bool) -> None:
    """``config.json`` and one safetensors file, or an index and shards of about ``SHARD_BYTES``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if not sharded:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    shards: list[dict[str, torch.Tensor]] = [{}]
    for stored, tensor in tensors.items():
        if shards[-1] and sum(t.nbytes for t in shards[-1].values()) + tensor.nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][stored] = tensor
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def reference_model(folder: Path) -> torch.nn.Module:
    """The checkpoint as transformers loads it, in float32, MXFP4 unpacked by transformers."""
    config = json.loads((folder / "config.json").read_text())
    extra = {"quantization_config": Mxfp4Config(dequantize=True)} if "quantization_config" in config else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **extra)
    return model.float().eval()


def reference_outputs(model: torch.nn.Module, tokens: np.ndarray) -> tuple[np.ndarray, float]:
    """Logits float32 [tokens, vocab], and the mean over layers and heads of the largest attention weight per row."""
    with torch.no_grad():
        out = model(torch.from_numpy(tokens.astype(np.int64))[None], output_attentions=True, use_cache=False)
    rows = [layer[0, :, 8:].max(-1).values.mean().item() for layer in out.attentions]
    return out.logits[0].float().numpy(), float(np.mean(rows))
