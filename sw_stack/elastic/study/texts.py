"""Held-out texts by domain, as token windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hw.errors import UserError
from sw_stack.models.tokenizer import TextTokenizer
from sw_stack.models.training.sources import DOMAINS

HELD_OUT = Path(__file__).resolve().parents[2] / "data" / "heldout"
"""Excerpts of files that the shipped models were not trained on, one per domain."""


def held_out_ids(tokenizer: TextTokenizer, folder: Path = HELD_OUT) -> dict[str, list[int]]:
    """Tokens of every domain's excerpt, by domain; UserError naming the file where one is missing."""
    texts = {}
    for domain in DOMAINS:
        path = folder / f"{domain.name}.txt"
        if not path.is_file():
            raise UserError(f"{path}: no such held-out text")
        texts[domain.name] = tokenizer.encode(path.read_text())
    return texts


def windows(ids: list[int], count: int, length: int) -> list[list[int]]:
    """``count`` windows of ``length`` tokens spread evenly over a text; they overlap where it is short."""
    if len(ids) < length:
        raise UserError(f"a held-out text must have at least {length} tokens, not {len(ids)}")
    return [ids[int(start) : int(start) + length] for start in np.linspace(0, len(ids) - length, count)]
