"""The shipped model: shape, size, and measured quality, checked without PyTorch by the NumPy float reference."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import sw_stack.models.float_reference as float_reference
from sw_stack.elastic.drafters.eagle import EagleDrafter, open_head
from sw_stack.elastic.drafters.protocol import Sequence
from sw_stack.models.checkpoint import open_checkpoint
from sw_stack.models.quantized_model import QuantizedModel
from sw_stack.models.runtime import Runtime, Segment
from sw_stack.models.safetensors_file import SafetensorsFile
from sw_stack.models.sampling import RandomStream

DATA = Path(__file__).parents[2] / "sw_stack" / "data"
TARGET = DATA / "elmoe-8m"
DRAFTERS = (DATA / "elmoe-8m-draft-dense", DATA / "elmoe-8m-draft-eagle")
DOMAINS = ("plays", "novels", "code", "docs")
BITS_PER_WEIGHT = 8 + 16 / 32  # INT8 with an FP16 scale per group of 32


def quality() -> dict:
    return json.loads((TARGET / "quality.json").read_text())


def int8_bytes(folder: Path) -> float:
    file = SafetensorsFile(folder / "model.safetensors")
    return sum(math.prod(entry.shape) for entry in file.tensors.values()) * BITS_PER_WEIGHT / 8


def first_tokens(domain: str) -> list[int]:
    """The start mark and 511 tokens of a held-out excerpt."""
    tokenizer = Tokenizer.from_file(str(TARGET / "tokenizer.json"))
    return [0, *tokenizer.encode((DATA / "heldout" / f"{domain}.txt").read_text()).ids[:511]]


def test_shape_and_size():
    """Qwen3-MoE with 6 layers of 32 experts, top-4, all multiples of 32; 12 MB as INT8, drafters 6 MB."""
    config = json.loads((TARGET / "config.json").read_text())
    assert config["architectures"] == ["Qwen3MoeForCausalLM"]
    assert config["num_hidden_layers"] >= 6
    assert (config["num_experts"], config["num_experts_per_tok"], config["norm_topk_prob"]) == (32, 4, True)
    for folder in (TARGET, *DRAFTERS):
        for name, entry in SafetensorsFile(folder / "model.safetensors").tensors.items():
            assert entry.dtype == "F16"
            assert all(size % 32 == 0 for size in entry.shape), name
    assert int8_bytes(TARGET) < 12e6
    assert sum(int8_bytes(folder) for folder in DRAFTERS) < 6e6


@pytest.mark.parametrize("folder", [TARGET, DRAFTERS[0]], ids=lambda path: path.name)
def test_loads_by_its_own_configuration(folder):
    """config.json names every stored tensor with its shape; every expert's matrices are finite, alive and distinct."""
    checkpoint = open_checkpoint(folder)
    norms = {}
    for name in checkpoint.shapes:
        values = np.asarray(checkpoint.load(name), np.float64)
        assert np.isfinite(values).all()
        assert values.std() > 0, name
        if ".experts." in name:
            norms[name] = float(np.square(values).sum())
    assert len(set(norms.values())) == len(norms)


def test_tokenizer_returns_every_byte():
    """1,024 entries; decoding an encoded excerpt gives the excerpt, and so for text of other scripts."""
    tokenizer = Tokenizer.from_file(str(TARGET / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 1024
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    for text in [*((DATA / "heldout" / f"{domain}.txt").read_text() for domain in DOMAINS), "žluťoučký 🐴\t\x00\r\n"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_float_reference_reproduces_the_measured_quality(monkeypatch):
    """Bits per byte of the excerpts by NumPy equal PyTorch's in float32; no expert is below 1/8 of its fair share.

    The two forward passes were written separately and share only the stored weights.
    """
    counts = []

    def counted(*arguments):
        weights = route(*arguments)
        counts.append((weights > 0).sum(0))
        return weights

    route = float_reference.route
    monkeypatch.setattr(float_reference, "route", counted)
    model = float_reference.FloatReference(open_checkpoint(TARGET))
    for domain, expected in quality()["excerpts"].items():
        tokens = first_tokens(domain)
        logits = model.logits(tokens)[:-1].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        bits = np.log2(np.exp(logits).sum(1)) - logits[np.arange(511), tokens[1:]] / math.log(2)
        assert bits.sum() / expected["bytes"] == pytest.approx(expected["moe"], rel=2e-4), domain
    layers = model.config.layers
    assert len(counts) == layers * len(DOMAINS)
    by_layer = np.array(counts).reshape(len(DOMAINS), layers, -1).sum(0)
    assert (by_layer.sum(1) == 4 * 512 * len(DOMAINS)).all()
    assert by_layer.min() >= 4 * 512 * len(DOMAINS) / 32 / 8


def test_quality_is_recorded_with_its_baselines():
    """Every domain has the model's and the 5-gram models' bits per byte over 50,000 bytes; the card shows them all."""
    table = quality()["bits_per_byte"]
    card = (TARGET / "MODEL_CARD.md").read_text()
    assert set(table) == set(DOMAINS)
    for domain, row in table.items():
        assert row["bytes"] > 50_000
        figures = [f"{row[name]:.3f}" for name in ("moe", "kneser_ney_tokens", "kneser_ney_bytes")]
        line = next(line for line in card.splitlines() if line.startswith(f"| {domain} | {figures[0]}"))
        assert all(figure in line for figure in figures), domain


@pytest.mark.parametrize("kind", ["tokens", "seen", "domain", "bytes"])
def test_below_kneser_ney_in_every_domain(kind):
    """Fewer bits per byte than 5-gram models of all training files, of exactly what the network saw, of the domain's
    own files, over tokens; and of all training files over bytes."""
    for domain, row in quality()["bits_per_byte"].items():
        assert 0.5 < row["moe"] < row[f"kneser_ney_{kind}"], domain


def test_eagle_head_prefers_what_the_target_prefers():
    """The head loads with the shipped target; given the target's own features, its choice is the target's more often
    than the small dense model's is."""
    target = Runtime(QuantizedModel(open_checkpoint(TARGET)))
    head = EagleDrafter(target, open_head(DRAFTERS[1], target.model.source))
    small = Runtime(QuantizedModel(open_checkpoint(DRAFTERS[0])))
    agreed = {"head": 0, "small": 0}
    for number, domain in enumerate(DOMAINS):
        ids = first_tokens(domain)[:256]
        result = target.forward([Segment(target.new_cache(), ids)])
        chosen = result.logits.argmax(axis=1)
        agreed["small"] += (small.forward([Segment(small.new_cache(), ids)]).logits.argmax(axis=1) == chosen)[1:].sum()
        for length in range(1, len(ids)):  # the head sees features up to length - 1 and the token behind them
            sequence = Sequence(number, target.new_cache(), RandomStream(0, 0), root=ids[length])
            head.observe(sequence, ids[length - 1 : length], result.hidden[length - 1 : length])
            agreed["head"] += int(head.begin([sequence])[0].argmax() == chosen[length])
    assert agreed["head"] > agreed["small"] > 0.2 * 255 * len(DOMAINS)


def test_corpus_is_recorded_with_licences():
    """At least three kinds of text, each with packages, licence, and files, bytes and SHA-256 of every split."""
    record = json.loads((TARGET / "corpus.json").read_text())
    assert set(record) == set(DOMAINS)
    card = (TARGET / "MODEL_CARD.md").read_text()
    for part in record.values():
        assert part["packages"] and part["licence"] in card
        digests = {part[split]["sha256"] for split in ("train", "valid", "test")}
        assert len(digests) == 3
        assert all(part[split]["files"] > 0 and part[split]["bytes"] > 0 for split in ("train", "valid", "test"))
