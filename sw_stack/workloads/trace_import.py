"""Conversion of the public GPT-OSS routing trace, an ``.npz`` and a ``.meta.json`` beside it, to this project's format.

The source holds ``experts`` uint8 [tokens, 24, 4] in descending score, ``offsets``, in one variant ``probs`` float16,
and a JSON list that names data set and category of every sequence.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from hw.errors import UserError
from sw_stack.workloads.trace import Trace, expert_dtype, read_trace

SOURCE = (
    "AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting @ 72b368f6: greedy decode of MMLU, MMLU-Pro, GPQA and other prompts"
)
MODEL, NUM_EXPERTS, LICENCE = "gpt-oss-20b", 32, "Apache-2.0"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ("experts", "offsets", "probs") if name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a readable .npz of the public trace: {error}") from error


def _meta(path: Path) -> Path:
    return path.with_suffix("").with_suffix(".meta.json")


def _labels(path: Path, sequences: int, key: str) -> list[str]:
    meta = _meta(path)
    try:
        entries = json.loads(meta.read_text())
        labels = [str(entry[key]) for entry in entries]
    except FileNotFoundError:
        raise UserError(f"{meta}: no such file; the public trace has it beside the .npz") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{meta}: must list a {key!r} per sequence: {error}") from error
    if len(labels) != sequences:
        raise UserError(f"{meta}: must list {sequences} sequences, not {len(labels)}")
    return labels


def import_public_trace(path: Path | str, domain_by: str = "dataset") -> Trace:
    """The public trace as a `Trace`; ``domain_by`` is ``dataset`` or ``category``."""
    path = Path(path)
    arrays = _arrays(path)
    for name in ("experts", "offsets"):
        if name not in arrays:
            raise UserError(f"{path}: array {name!r} is missing")
    labels = _labels(path, len(arrays["offsets"]) - 1, domain_by)
    domains = tuple(dict.fromkeys(labels))
    try:
        return Trace(
            experts=arrays["experts"].astype(expert_dtype(NUM_EXPERTS), casting="same_kind"),
            offsets=arrays["offsets"].astype(np.int64),
            probs=arrays.get("probs"),
            num_experts=NUM_EXPERTS,
            domains=domains,
            domain_of_sequence=np.array([domains.index(label) for label in labels], np.int16),
            model=MODEL,
            source=SOURCE,
            licence=LICENCE,
            phase="decode",
            note="converted; token text was never part of it",
        )
    except (UserError, TypeError) as error:
        raise UserError(f"{path}: {error}") from error


def open_trace(path: Path | str) -> Trace:
    """A trace in this project's format, or the public one with its ``.meta.json`` beside it."""
    path = Path(path)
    if _meta(path).exists() and "header" not in _members(path):
        return import_public_trace(path)
    return read_trace(path)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return ["header"]  # whoever reads it says what is wrong


def excerpt(trace: Trace, sequences: int, longest: int) -> Trace:
    """``sequences`` evenly spaced ones of those with ``longest`` tokens or more, each cut to that length."""
    long = np.flatnonzero(np.diff(trace.offsets) >= longest)
    if len(long) < sequences:
        raise UserError(f"excerpt must have at most {len(long)} sequences of {longest} tokens, not {sequences}")
    chosen = long[np.linspace(0, len(long) - 1, sequences).round().astype(int)]
    return trace.select(chosen, longest, note=f"excerpt: {sequences} sequences, their first {longest} tokens")
