"""Generator parameters of the four models, read from sw_stack/data/traces/generator_presets.json.

Three are fitted to cited statistics (`sw_stack.workloads.generator_fit` states the procedure and remakes the file).
Nothing is published for GLM-4.7-Flash: it takes DeepSeek-V2-Lite's parameters, the other model with 64 small experts
beside shared ones and latent attention, with its own 46 layers and top-4; that is an assumption and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from hw.errors import UserError, nearest
from sw_stack.workloads.generator import GeneratorParams
from sw_stack.workloads.generator_fit import PRESETS_FILE, SHAPES

_GLM, _GLM_LAYERS, _GLM_TOP_K, _GLM_LIKE = "glm-4.7-flash", 46, 4, "deepseek-v2-lite"


@dataclass(frozen=True)
class GeneratorPreset:
    """Parameters with the kind of their source ("derived" = fitted, or "assumed") and what they rest on.

    sequence_tokens  usual length of a sequence
    """

    params: GeneratorParams
    sequence_tokens: int
    kind: str
    source: str


def _load() -> dict[str, GeneratorPreset]:
    presets = {}
    for name, values in json.loads(PRESETS_FILE.read_text()).items():
        params = GeneratorParams(**(values | {"locality": tuple(values["locality"])}))
        source = "fitted to published pooled and within-sequence unevenness and lag-1 reuse by layer"
        presets[name] = GeneratorPreset(params, SHAPES[name][3], "derived", source)
    like = presets[_GLM_LIKE]
    depth = np.linspace(0, 1, _GLM_LAYERS)
    locality = np.interp(depth, np.linspace(0, 1, like.params.layers), like.params.locality)
    values = vars(like.params) | {"name": _GLM, "top_k": _GLM_TOP_K, "locality": tuple(float(x) for x in locality)}
    presets[_GLM] = GeneratorPreset(
        GeneratorParams(**values), like.sequence_tokens, "assumed", f"parameters of {_GLM_LIKE}; nothing is published"
    )
    return presets


PRESETS: dict[str, GeneratorPreset] = _load()


def preset(name: str) -> GeneratorPreset:
    """The preset called ``name``; raises UserError with the nearest known name."""
    if name not in PRESETS:
        raise UserError(f"unknown generator preset {name!r}; {nearest(name, list(PRESETS))}")
    return PRESETS[name]
