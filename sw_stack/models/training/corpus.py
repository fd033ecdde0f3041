"""The training text as token streams: vocabulary, splits on disk, held-out excerpts, training windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from hw.errors import UserError
from hw.files import write_atomic
from sw_stack.models.training.sources import DOMAINS, SPLITS, archives_of, texts

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 1024
EXCERPT = 24_000


def tokenizer_of(corpus: dict, path: Path):
    """Byte-level BPE of ``VOCABULARY`` entries over the training split; read from ``path`` if it is there.

    Every domain gives the same number of bytes to the training, so that no domain is favoured. Byte level
    means that every text can be encoded: there is no unknown token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    joined = {name: "".join(text for _, text in parts["train"]) for name, parts in corpus.items()}
    share = min(len(text) for text in joined.values())
    tokenizer.train_from_iterator((text[:share] for text in joined.values()), trainer)
    write_atomic(path, tokenizer.to_str(pretty=True))
    return tokenizer


def shipped_tokenizer(model_folder: Path):
    """The tokenizer of a shipped model; UserError where its file is missing."""
    from tokenizers import Tokenizer

    path = model_folder / "tokenizer.json"
    if not path.exists():
        raise UserError(f"{path} must exist; it is made with the training text")
    return Tokenizer.from_file(str(path))


def token_texts(tokenizer) -> list[bytes]:
    """The bytes of every vocabulary entry; of the start mark (entry 0), none."""
    from tokenizers.pre_tokenizers import ByteLevel

    # Byte-level BPE spells bytes as printable characters: printable ones as themselves, the rest from 256 up.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in printable]
    spelling = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(other)}
    assert sorted(spelling) == sorted(ByteLevel.alphabet())
    entries = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [b"" if e == END_OF_TEXT else bytes(spelling[c] for c in e) for e, _ in entries]


def encode_files(tokenizer, files: list[tuple[str, str]]) -> np.ndarray:
    """uint16 token stream: each file preceded by the end-of-text token (a document's start marker)."""
    encodings = tokenizer.encode_batch([text for _, text in files])
    start = tokenizer.token_to_id(END_OF_TEXT)
    return np.concatenate([np.array([start, *e.ids], dtype=np.uint16) for e in encodings])


def write_excerpts(corpus: dict, folder: Path) -> None:
    """The first ``EXCERPT`` bytes or so, to the end of a line, of every domain's excerpt file."""
    for domain in DOMAINS:
        text = dict(corpus[domain.name]["test"])[domain.excerpt].encode()
        end = text.find(b"\n", EXCERPT) + 1 if len(text) > EXCERPT else len(text)
        write_atomic(folder / f"{domain.name}.txt", text[:end])


def prepare(build: Path, model_folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Token streams by domain and split, made once under ``build`` and memory-mapped afterwards.

    Writes ``corpus.json`` (per domain and split: files, bytes, tokens, SHA-256 of the text) beside the
    model, the record of what a model was trained on.
    """
    record_path, tokenizer_path = model_folder / "corpus.json", model_folder / "tokenizer.json"
    arrays = {d.name: {split: build / f"{d.name}.{split}.npy" for split in SPLITS} for d in DOMAINS}
    if not record_path.exists() or not all(p.exists() for parts in arrays.values() for p in parts.values()):
        corpus = texts(build)
        tokenizer = tokenizer_of(corpus, tokenizer_path)
        record = {}
        for domain in DOMAINS:
            record[domain.name] = {"packages": archives_of(domain, build), "licence": domain.licence}
            for split, files in corpus[domain.name].items():
                tokens = encode_files(tokenizer, files)
                np.save(arrays[domain.name][split], tokens)
                text = "".join(text for _, text in files).encode()
                record[domain.name][split] = {
                    "files": len(files),
                    "bytes": len(text),
                    "tokens": int(tokens.size),
                    "sha256": hashlib.sha256(text).hexdigest(),
                }
        write_excerpts(corpus, model_folder.parent / "heldout")
        write_atomic(record_path, json.dumps(record, indent=2) + "\n")
    return {
        name: {split: np.load(path, mmap_mode="r") for split, path in parts.items()} for name, parts in arrays.items()
    }
