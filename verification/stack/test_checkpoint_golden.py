"""Checkpoint loading against golden logits that transformers made (verification/golden)."""

import json
import shutil
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cycle_model.numerics import Mxfp4Weights
from sw_stack.models.architectures import layer_tensors, tensor_shapes
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.float_reference import FloatReference
from sw_stack.models.hf_config import from_hf_config
from sw_stack.models.hf_names import location
from sw_stack.models.tensor_source import ArraySource
from verification.golden.configs import COMMITTED
from verification.golden.make_golden import FOLDER, GOLDEN
from verification.golden.runtime_distance import runtime_distance

TOLERANCE = 1e-4
LARGEST = 1_500_000


def _golden(name):
    tensors = load_file(FOLDER / name / GOLDEN)
    return tensors["tokens"], tensors["logits"]


def _error(found, expected):
    return np.abs(found - expected).max() / expected.std()


@pytest.mark.parametrize("name", COMMITTED)
def test_logits_equal_transformers(name):
    """Float logits of every family are those of transformers within 1e-4 of their deviation, which is at least 1."""
    tokens, expected = _golden(name)
    assert expected.std() >= 1
    checkpoint = open_checkpoint(FOLDER / name)
    assert len(tokens) > 2 * max([8, *(w for w in checkpoint.config.windows if w)])
    assert _error(FloatReference(checkpoint).logits(tokens), expected) < TOLERANCE


@pytest.mark.parametrize("name", COMMITTED)
def test_runtime_in_float_equals_transformers(name):
    """The runtime's own operators give the same logits where nothing is quantised; in INT8 it stays a fraction away."""
    tokens, expected = _golden(name)
    distance = runtime_distance(FOLDER / name, tokens, expected)
    assert distance.float_rms < TOLERANCE
    # Observed 4 to 15 %; a wrong scale or a lost tensor is above 50 %.
    assert distance.float_rms < distance.int8_median < 0.3


class _Changed:
    """A source with one tensor clearly different."""

    def __init__(self, tensors, name):
        self.config, self._tensors = tensors.config, tensors.tensors
        rng = np.random.default_rng(0)
        tensor = self._tensors[name]
        if isinstance(tensor, Mxfp4Weights):
            self._new = Mxfp4Weights(rng.integers(0, 16, tensor.codes.shape).astype(np.uint8), tensor.exponents)
        else:
            self._new = tensor + (0.5 * tensor.std() + 0.05) * rng.standard_normal(tensor.shape).astype(np.float32)
        self._name = name

    def load(self, name):
        return self._new if name == self._name else self._tensors[name]


@pytest.mark.parametrize("name", COMMITTED)
def test_every_tensor_matters(name):
    """Each canonical tensor, changed by itself, moves the logits: none is loaded and then left out."""
    tokens, expected = _golden(name)
    checkpoint = open_checkpoint(FOLDER / name)
    tensors = ArraySource(checkpoint.config, {n: checkpoint.load(n) for n in checkpoint.shapes})
    still = [
        n for n in checkpoint.shapes if _error(FloatReference(_Changed(tensors, n)).logits(tokens), expected) < 1e-3
    ]
    assert not still


def test_golden_files_stay_small():
    """What the repository carries for this is below 1.5 MB."""
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < LARGEST


def test_memory_of_one_layer(tmp_path):
    """Loading a model layer by layer allocates about one layer, not the model."""
    source = FOLDER / "qwen3_moe"
    config = json.loads((source / "config.json").read_text())
    wide = {"hidden_size": 256, "moe_intermediate_size": 256, "num_hidden_layers": 8, "num_experts": 8}
    config |= wide
    (tmp_path / "config.json").write_text(json.dumps(config))

    model = from_hf_config(config)
    shapes = tensor_shapes(model)
    save_file(
        {location(model, n, s).name: np.full(s, 0.5, np.float16) for n, s in shapes.items()},
        tmp_path / "model.safetensors",
    )
    checkpoint = open_checkpoint(tmp_path)
    one_layer = checkpoint.layer_bytes(0)
    assert one_layer > 3_000_000
    tracemalloc.start()
    for index in range(model.layers):
        layer = {short: checkpoint.load(f"layers.{index}.{short}") for short in layer_tensors(model, index)}
        assert sum(tensor.nbytes for tensor in layer.values()) == one_layer
        del layer
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * one_layer


def test_transformers_configuration_loads_too(tmp_path):
    """The keys that transformers 5 writes (rope_parameters, num_local_experts) mean the same as the published ones."""
    shutil.copytree(FOLDER / "qwen3_moe", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["num_local_experts"] = config.pop("num_experts")
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), "rope_type": "default"}
    del config["rope_scaling"]
    path.write_text(json.dumps(config))
    tokens, expected = _golden("qwen3_moe")
    assert _error(FloatReference(open_checkpoint(tmp_path / "model")).logits(tokens), expected) < TOLERANCE
