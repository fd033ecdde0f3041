"""Capture of routing from running models, and its command line."""

import json
import shutil
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from hw.errors import UserError
from sw_stack.commands.main import main
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.kv_cache import KvFormat
from sw_stack.models.precision import Precision, WeightScheme
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime
from sw_stack.workloads.capture import capture_runtime, estimate, layer_number
from sw_stack.workloads.trace import read_trace
from verification.golden.make_golden import FOLDER
from verification.golden.routing import float_routing


@pytest.mark.parametrize("name", ["qwen3_moe", "deepseek_v2", "glm4_moe_lite", "gpt_oss"])
def test_capture_is_the_models_routing(name):
    """In float, captured experts and weights are exactly the float reference's, in falling weight, for every layer."""
    checkpoint = open_checkpoint(FOLDER / name)
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, 96, n).tolist() for n in (40, 17)]
    runtime = Runtime(QuantizedModel(checkpoint), kv_format=KvFormat.FP32)
    about = {"model": name, "source": "random ids", "licence": "none"}
    in_float = Precision.uniform(WeightScheme.FLOAT)
    trace = capture_runtime(runtime, sequences, ["a", "b"], chunk=16, precision=in_float, **about)
    assert trace.offsets.tolist() == [0, 40, 57] and trace.domain_of_sequence.tolist() == [0, 1]
    assert trace.layer_index.tolist() == [i for i, sparse in enumerate(checkpoint.config.moe_layers) if sparse]
    for i, tokens in enumerate(sequences):
        weights = float_routing(checkpoint, tokens)  # [tokens, layers, experts]
        ranked = np.argsort(-weights, axis=2)[..., : trace.top_k]
        np.testing.assert_array_equal(trace.sequence(i), ranked)
        rows = slice(trace.offsets[i], trace.offsets[i + 1])
        np.testing.assert_allclose(trace.probs[rows], np.take_along_axis(weights, ranked, 2), atol=2e-3)


def test_chunks_do_not_matter():
    """A sequence taken in chunks of 7 or whole gives the same trace, bit for bit."""
    runtime = Runtime(QuantizedModel(open_checkpoint(FOLDER / "qwen3_moe")))
    tokens = [np.random.default_rng(2).integers(0, 96, 30).tolist()]
    about = {"model": "m", "source": "s", "licence": "l"}
    small = capture_runtime(runtime, tokens, ["a"], chunk=7, **about)
    whole = capture_runtime(runtime, tokens, ["a"], chunk=30, **about)
    np.testing.assert_array_equal(small.experts, whole.experts)
    np.testing.assert_array_equal(small.probs, whole.probs)


@pytest.fixture
def folder(tmp_path):
    """A golden checkpoint with a tokenizer that knows 96 words, and a text of them."""
    model = shutil.copytree(FOLDER / "qwen3_moe", tmp_path / "tiny")
    vocabulary = {f"w{i}": i for i in range(96)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    (tmp_path / "words.txt").write_text(" ".join(f"w{i * 7 % 96}" for i in range(100)))
    return model


def _run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["trace", "capture", *map(str, arguments)])
    return stop.value.code


def test_capture_command(folder, tmp_path, capsys):
    """The command says what it needs, writes the trace, and prints its statistics."""
    text, to = tmp_path / "words.txt", tmp_path / "t.npz"
    code = _run(folder, "--text", text, "--sequence", 30, "--to", to, "--out", tmp_path, "--licence", "MIT")
    printed = capsys.readouterr().out
    assert code == 0 and "capture: 3 sequences of 30 tokens, needs about" in printed and "GiB free" in printed
    trace = read_trace(to)
    assert (trace.tokens, trace.layers, trace.top_k, trace.num_experts) == (90, 2, 2, 6)
    assert trace.licence == "MIT" and trace.domains == ("words",) and trace.model == "tiny"


def test_capture_without_torch(folder, tmp_path, capsys, monkeypatch):
    """The transformers engine without torch: one line that says what to install, exit status 2."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert _run(folder, "--text", tmp_path / "words.txt", "--engine", "transformers") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "torch" in error and "pip install" in error


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--engine", "cuda"), "--engine must be"),
        (("--sequence", "0"), "--sequence"),
        (("--sequence", "500"), "at least 500 tokens, not 100"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_capture_refuses(folder, tmp_path, capsys, arguments, part):
    """Bad options and texts: one line, exit status 2."""
    texts = () if "--text" in arguments else ("--text", tmp_path / "words.txt")
    assert _run(folder, *texts, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and part in error


def test_dense_model_has_no_routing(tmp_path):
    """A model without experts is refused."""

    class Dense:
        class config:
            experts = 0

    with pytest.raises(UserError, match="dense"):
        capture_runtime(Dense, [[1]], ["a"], model="m", source="s", licence="l")


def test_needs():
    """Memory is what the weights take; time grows with tokens; the sentence names both."""
    small, large = estimate(3 << 30, 10**6, 10), estimate(3 << 30, 10**6, 100_000_000)
    assert "3.00 GiB for weights" in str(small) and small.available_bytes > 0
    assert large.seconds > 1000 * small.seconds and "min" in str(large)


def test_layer_numbers():
    """The layer is the last number of a module's path; a path without one is refused."""
    assert layer_number("model.layers.11.mlp.gate") == 11
    with pytest.raises(UserError):
        layer_number("model.gate")


def test_json_document(tmp_path, folder):
    """The statistics of a capture are written as JSON with the texts' names, not their paths."""
    _run(folder, "--text", tmp_path / "words.txt", "--sequence", 30, "--json", tmp_path / "s.json", "--quiet")
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["provenance"]["config"]["text"] == ["words.txt"] and content["tokens"] == 90
