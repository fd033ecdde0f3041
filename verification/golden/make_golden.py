"""Remake the golden tensors: ``python -m verification.golden.make_golden`` (torch and transformers needed).

Per family a tiny checkpoint and, in ``golden.safetensors``, token ids and the logits that transformers computes from
it in float32.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from verification.golden.configs import COMMITTED, CONFIGS, TOKENS

FOLDER = Path(__file__).parent
SHARDED = ("qwen3_moe", "gpt_oss")
GOLDEN = "golden.safetensors"


def tokens_of(config: dict) -> np.ndarray:
    """The token ids of every golden run, int32 [TOKENS]."""
    return np.random.default_rng(5).integers(0, config["vocab_size"], TOKENS).astype(np.int32)


def make(name: str, folder: Path) -> dict[str, float]:
    """Write checkpoint and golden tensors of one configuration; spread of the logits and peak of the attention."""
    from verification.golden.tiny_checkpoints import (
        random_tensors,
        reference_model,
        reference_outputs,
        write_checkpoint,
    )

    config = CONFIGS[name]
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, config, random_tensors(name, config), sharded=name in SHARDED)
    tokens = tokens_of(config)
    logits, peak = reference_outputs(reference_model(folder), tokens)
    save_file({"tokens": tokens, "logits": logits}, folder / GOLDEN)
    return {"logit_std": float(logits.std()), "attention_peak": peak}


def main() -> None:
    """Remake what is committed, in place."""
    for name in COMMITTED:
        facts = make(name, FOLDER / name)
        print(f"{name}: logits std {facts['logit_std']:.2f}, largest attention weight {facts['attention_peak']:.2f}")


if __name__ == "__main__":
    main()
