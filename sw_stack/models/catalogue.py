"""Published MoE models by name: dimensions, parameter counts and configurations, from sw_stack/data/models/*.json.

Each file says where its values were read and how exactly ("verbatim copy", "reconstructed, every field seen in two
sources", ...); `expert` sizes and totals follow from the dimensions and are checked against what is advertised.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hw.errors import UserError, nearest
from sw_stack.elastic.slices import SliceSizes
from sw_stack.models.architectures import ModelConfig
from sw_stack.models.hf_config import from_hf_config

FOLDER = Path(__file__).parent.parent / "data" / "models"


@dataclass(frozen=True)
class ModelEntry:
    """One published model.

    name         as commands take it
    source       where the values are from: source, exactness, checked
    dimensions   normalised: hidden_size, num_hidden_layers, attention, moe, ...
    params       counts: total, active_incl_both_embeddings, per_expert, routed_experts_all, what is advertised
    hf_config    the architecture's fields of its ``config.json``
    """

    name: str
    source: dict
    dimensions: dict
    params: dict
    hf_config: dict

    def architecture(self) -> ModelConfig:
        """The model as loaders and compiler know it; UserError where the family is not implemented."""
        return from_hf_config(self.hf_config, f"model {self.name}")

    def expert_slices(self) -> SliceSizes:
        """Bytes of one routed expert's INT8 slices (its biases, where it has some, are left out)."""
        moe = self.dimensions["moe"]
        return SliceSizes.of_weights(3 * self.dimensions["hidden_size"] * moe["expert_intermediate"])


@cache
def models() -> dict[str, ModelEntry]:
    """All models by name."""
    entries = (json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json")))
    return {e["name"]: ModelEntry(e["name"], e["source"], e["dimensions"], e["params"], e["config"]) for e in entries}


def model(name: str) -> ModelEntry:
    """The model called ``name``; raises UserError with the nearest known name."""
    if name not in models():
        raise UserError(f"unknown model {name!r}; {nearest(name, list(models()))}")
    return models()[name]
