"""Kneser-Ney models of the training text, and what they make of the test text; kept under ``build``.

Three granularities, because "5-gram" means little without one: five tokens of the model's own vocabulary
(about 12 bytes, the strongest of the three), the same fitted to one domain's text only, and five bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sw_stack.models.training.kneser_ney import KneserNey

KINDS = {
    "tokens": "5 tokens, all domains",
    "domain": "5 tokens, own domain only",
    "bytes": "5 bytes, all domains",
}
ORDER = 5


def baseline_bits(streams: dict, texts: list[bytes], build: Path) -> dict[str, dict[str, np.ndarray]]:
    """Bits that each baseline spends on every token of the test streams: ``[kind][domain]`` = (T,) float64.

    The start mark of a text costs nothing: it is given. ``texts`` holds the bytes of every token.
    """
    paths = {kind: {name: build / f"kneser_ney.{kind}.{name}.npy" for name in streams} for kind in KINDS}
    for kind, by_domain in paths.items():
        if all(path.exists() for path in by_domain.values()):
            continue
        train = {name: parts["train"] for name, parts in streams.items()}
        pooled = None if kind == "domain" else _fit(kind, np.concatenate(list(train.values())), texts)
        for name, path in by_domain.items():
            model = pooled or _fit(kind, train[name], texts)
            np.save(path, _bits(kind, model, streams[name]["test"], texts))
    return {kind: {name: np.load(path) for name, path in by_domain.items()} for kind, by_domain in paths.items()}


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
