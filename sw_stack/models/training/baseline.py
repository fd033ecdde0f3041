"""Kneser-Ney models of the training text, and what they make of the test text; kept under ``build``.

Several, because "a 5-gram model of the same data" can be read in several ways: five tokens of the model's own
vocabulary (about 12 bytes) or five bytes; fitted to all training files, to exactly the text that the model was
trained on (a model that stopped before a full pass has seen less), or to one domain's files only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sw_stack.models.training.kneser_ney import KneserNey

KINDS = {
    "tokens": "5 tokens, all training files",
    "seen": "5 tokens, what the model saw",
    "domain": "5 tokens, own domain only",
    "bytes": "5 bytes, all training files",
}
ORDER = 5


def baseline_bits(streams: dict, seen: dict, texts: list[bytes], build: Path) -> dict[str, dict[str, np.ndarray]]:
    """Bits that each baseline spends on every token of the test streams: ``[kind][domain]`` = (T,) float64.

    The start mark of a text costs nothing: it is given.

    Parameters
    ----------
    streams : token streams by domain and split.
    seen : by domain, which tokens of the training stream the model was trained on.
    texts : the bytes of every token.
    """
    train = {name: parts["train"] for name, parts in streams.items()}
    found = {}
    for kind in KINDS:
        suffix = f"{kind}-{sum(int(mask.sum()) for mask in seen.values())}" if kind == "seen" else kind
        paths = {name: build / f"kneser_ney.{suffix}.{name}.npy" for name in streams}
        if not all(path.exists() for path in paths.values()):
            data = {name: seen_stream(train[name], seen[name]) for name in train} if kind == "seen" else train
            pooled = None if kind == "domain" else _fit(kind, np.concatenate(list(data.values())), texts)
            for name, path in paths.items():
                model = pooled or _fit(kind, data[name], texts)
                np.save(path, _bits(kind, model, streams[name]["test"], texts))
        found[kind] = {name: np.load(path) for name, path in paths.items()}
    return found


def seen_stream(stream: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The seen pieces of a training stream one after the other, each behind a start mark."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], seen, [False])).astype(np.int8)))
    pieces = []
    for first, end in edges.reshape(-1, 2):
        pieces += [stream[first:end]] if stream[first] == 0 else [[0], stream[first:end]]
    return np.concatenate(pieces).astype(np.int64)


def _fit(kind: str, stream: np.ndarray, texts: list[bytes]) -> KneserNey:
    if kind == "bytes":
        return KneserNey(to_bytes(stream, texts)[0], 257, ORDER)
    return KneserNey(stream, len(texts), ORDER)


def _bits(kind: str, model: KneserNey, stream: np.ndarray, texts: list[bytes]) -> np.ndarray:
    symbols, owner = to_bytes(stream, texts) if kind == "bytes" else (stream, np.arange(len(stream)))
    positions, probability = model.probabilities(symbols)
    return np.bincount(owner[positions], weights=-np.log2(probability), minlength=len(stream))


def to_bytes(stream: np.ndarray, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """A token stream as bytes + 1, with 0 for the start mark, and the index of the token of every byte."""
    spelled = [np.array([0])] + [np.frombuffer(text, dtype=np.uint8).astype(np.int64) + 1 for text in texts[1:]]
    sizes = np.array([len(symbols) for symbols in spelled])[stream]
    return np.concatenate([spelled[token] for token in stream]), np.repeat(np.arange(len(stream)), sizes)
