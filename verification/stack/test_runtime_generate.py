"""``elmoe3d generate`` and the text around it: streaming, batches, and mistakes in one line with exit status 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hw.errors import UserError
from sw_stack.commands.main import main
from sw_stack.models.tokenizer import TextStream, TextTokenizer
from verification.bench.tiny_models import HF_CONFIGS, write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random model with a byte-level tokenizer of 256 symbols and one merge (h, e)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("model")
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, "he"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path / "tokenizer.json"))
    write_checkpoint(path, HF_CONFIGS["qwen3_moe"] | {"vocab_size": 257, "eos_token_id": None}, seed=3)
    return path


def generate(capsys, folder: Path, *options: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--model", str(folder), *options])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_text_is_printed_and_repeats(capsys, folder):
    """The prompt, then 20 tokens; the same command gives the same text, greedy and sampled; another seed another."""
    greedy = ("--prompt", "hello", "--tokens", "20")
    runs = [generate(capsys, folder, *greedy, "--quiet") for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0][0] == 0 and runs[0][1].startswith("hello") and len(runs[0][1]) > 10
    with_summary = "".join(generate(capsys, folder, *greedy)[1:])
    assert runs[0][1].rstrip() in with_summary and "1 sequence, 4 prompt tokens, 20 new tokens" in with_summary
    sampled = [
        generate(capsys, folder, "--prompt", "hello", "--temperature", "1", "--seed", seed, "--quiet")[1]
        for seed in ("1", "1", "2")
    ]
    assert sampled[0] == sampled[1] != sampled[2]
    assert generate(capsys, folder, *greedy, "--quiet", "--stream-layers") == runs[0]


def test_a_batch_gives_every_sequence_the_text_it_has_alone(capsys, folder):
    """Two prompts in a batch of 5: lines numbered by sequence; greedy texts equal those of single runs."""
    options = ("--tokens", "10", "--quiet")
    status, out, err = generate(capsys, folder, "--prompt", "hello", "--prompt", "abc", "--batch", "5", *options)
    assert status == 0 and err == ""
    alone = [generate(capsys, folder, "--prompt", p, *options)[1].removesuffix("\n") for p in ("hello", "abc")]
    for i in range(5):
        lines = [line.removeprefix(f"{i}: ") for line in out.split("\n") if line.startswith(f"{i}: ")]
        assert "\n".join(lines) == alone[i % 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "prompt must not be empty"),
        (["--prompt", "a", "--tokens", "0"], "tokens must be at least 1"),
        (["--prompt", "a", "--tokens", "640"], "640 positions"),
        (["--prompt", "a", "--batch", "65"], "batch must be 0 to 64"),
        (["--prompt", "a", "--method", "elastik"], "unknown method 'elastik'"),
        (["--prompt", "a", "--temperature", "-1"], "temperature must be"),
        (["--prompt", "a", "--top-p", "0"], "top_p must be"),
        (["--prompt", "a", "--seed", "-1"], "seed must be"),
        (["--prompt", "a", "--kv", "int4"], "kv must be"),
        (["--prompt", "a", "--threads", "0"], "threads must be"),
        ([], "--prompt"),
    ],
)
def test_mistakes_are_one_line(capsys, folder, options, message):
    """Exit status 2, nothing printed as text, one line that says what must be otherwise."""
    status, out, err = generate(capsys, folder, *options)
    assert status == 2 and out == "" and message in err and err.count("\n") == 1


def test_models_that_do_not_fit(capsys, folder, tmp_path):
    """A missing folder, a missing or broken tokenizer, and tokens beyond the vocabulary: one line naming the file."""
    status, _, err = generate(capsys, tmp_path / "nowhere", "--prompt", "a")
    assert status == 2 and "nowhere" in err and err.count("\n") == 1
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").unlink()
    status, _, err = generate(capsys, copy, "--prompt", "a")
    assert status == 2 and "tokenizer.json: no such file" in err
    (copy / "tokenizer.json").write_text("{}")
    status, _, err = generate(capsys, copy, "--prompt", "a")
    assert status == 2 and "tokenizer.json: not a tokenizer" in err and err.count("\n") == 1
    tokenizer = TextTokenizer(folder, vocab=256)
    with pytest.raises(UserError, match="token 256 is beyond the model's vocabulary of 256"):
        tokenizer.encode("he")
    config = json.loads((folder / "config.json").read_text())
    del config["rms_norm_eps"]
    (copy / "config.json").write_text(json.dumps(config))
    status, _, err = generate(capsys, copy, "--prompt", "a")
    assert status == 2 and "config.json: key 'rms_norm_eps' is missing" in err


def test_characters_appear_when_they_are_complete(folder):
    """The bytes of é and 漢 come one token at a time: nothing until the last, then the character; the end shows all."""
    tokenizer = TextTokenizer(folder, vocab=257)
    stream = TextStream(tokenizer)
    pieces = [stream.add(token) for token in tokenizer.encode("aé漢")]
    assert pieces == ["a", "", "é", "", "", "漢"] and stream.end() == ""
    cut = TextStream(tokenizer)
    assert [cut.add(token) for token in tokenizer.encode("é")[:1]] == [""]
    assert cut.end() == "\N{REPLACEMENT CHARACTER}"
