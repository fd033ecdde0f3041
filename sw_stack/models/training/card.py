"""``MODEL_CARD.md`` of the shipped models, written from what was recorded: nothing in it is typed by hand twice."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from hw.files import write_atomic
from sw_stack.models.training.baseline import KINDS
from sw_stack.models.training.recipes import RECIPES, TARGET, Recipe
from sw_stack.models.training.sources import DOMAINS
from sw_stack.workloads.published import PUBLISHED

STATISTICS = (
    "zipf_pooled",
    "zipf_within",
    "entropy_pooled",
    "entropy_within",
    "top_share_within",
    "reuse_chance",
    "reuse_lag_1",
    "reuse_lag_8",
    "reuse_lag_64",
    "reuse_first_layer",
    "reuse_best_layer",
    "unique_consecutive_16",
    "unique_across_16",
    "unique_uniform_16",
)
"""Rows of the routing table; what each means is said in `sw_stack.workloads.trace_statistics`."""

_TEXT = """\
# {target}

A small mixture-of-experts language model of the Qwen3-MoE shape, trained from scratch for this project, with what
it needs for speculative decoding. It exists so that acceptance, expert locality and cache behaviour are measured on
a real router and real text. It is no assistant and knows nothing worth asking.

| model | folder | shape | parameters | as INT8 (8.5 bits a weight) | steps | tokens seen |
|---|---|---|---|---|---|---|
{models}

Weights are stored once, as **float16** roundings of the float32 master, under Hugging Face's Qwen3-MoE (and Qwen3)
names; INT8, 4-bit copies and the float rows of studies all derive from them. Embedding and output matrix are not
tied. Vocabulary: 1,024 entries of byte-level BPE made from the training files alone, an equal number of bytes from
each domain (2.4 bytes a token on average); entry 0, `<|endoftext|>`, stands before every text. Context: {context}
tokens.

{head}
## Text

{corpus}

Split by file; SHA-256 of every split and the packages' file names are in `corpus.json`. Domains are drawn with fixed
shares ({shares}). `../heldout` holds the beginning of one test file per domain, under the same licences. The weights
are the project's own.

## Quality

Bits per byte of test files, the same tokens for every column, each with at least half a window of text before it;
float32 products. The baselines are interpolated modified Kneser-Ney 5-gram models over the same vocabulary, fitted to
all training files, to exactly the text that the network was trained on, and to the domain's own files; and one of 5
bytes. The network has seen {seen} tokens, {epochs} times the {train:,} in the training files.

{quality}

**{verdict}** The baselines are tested on hand-worked toys (`verification/stack/test_kneser_ney.py`).
{agreement}
## Experts

Least used expert of any layer: {least:.2f} of its fair share on held-out text (limit 0.125); most used: {most:.2f}.

{routing}

Mean over layers; estimators and sources are in `sw_stack/workloads`. Lag-1 reuse by layer: {by_layer}. Shared mass of
expert use between two domains, of which no published figure is known: {overlap}. Nothing was fitted to the published
figures. A small model on a CPU budget is no substitute for a trace of a large one.

## Training

{state}`python -m sw_stack.models.training.train moe`, then `dense`, then `eagle` (`make train`); resumable, seed
{seed}; batches are a pure function of seed and step. Muon for the layers' matrices, Adam for the rest;
{early_tokens:,} tokens a step for {early} steps, then {tokens:,}; constant rate after {warmup} steps of warm-up,
linear to zero over the last {decay:.0%}; Switch load-balancing loss x {balance}; bfloat16 products,
float32 parameters, norms, router and residual. Sequences of {short} tokens first, of {context} in the last
{long_share:.0%} of the steps. Seconds in the logs are wall-clock of a shared two-core machine and say little
about speed. Validation, bits per byte:

{curve}
{samples}
"""

_HEAD = """\
The EAGLE-style head: f = output of the target's final norm; x = fc [embedding of the next token ; f], one dense layer
(pre-norm, attention and SwiGLU as in the target), and the result stands for the next f; embedding and output matrix
are the target's (`sw_stack/models/training/eagle.py`).
"""


def write_card(data: Path) -> None:
    """Write the card below ``data`` from ``quality.json``, ``corpus.json``, configurations and training logs."""
    folder = data / TARGET
    report = json.loads((folder / "quality.json").read_text())
    corpus = json.loads((folder / "corpus.json").read_text())
    recipe = RECIPES["moe"]
    log = _log(folder)
    train = sum(parts["train"]["tokens"] for parts in corpus.values())
    figures = report["routing"]
    text = _TEXT.format(
        target=TARGET,
        models="\n".join(_model_row(name, r, data) for name, r in RECIPES.items() if (data / r.folder).exists()),
        context=recipe.shape.context,
        head=_HEAD if (data / RECIPES["eagle"].folder).exists() else "No EAGLE-style head is shipped yet.\n",
        state=_state(recipe, log[-1]["step"]),
        corpus=_corpus_table(corpus),
        shares=", ".join(f"{d.name} {d.weight:.0%}, late {d.late_weight:.0%}" for d in DOMAINS),
        seen=f"{log[-1]['tokens']:,}",
        epochs=f"{log[-1]['tokens'] / train:.2f}",
        train=train,
        quality=_quality_table(report["bits_per_byte"]),
        verdict=_verdict(report["bits_per_byte"]),
        agreement=_agreement(report),
        least=figures["smallest_share_of_fair"],
        most=figures["largest_share_of_fair"],
        routing=_routing_table(figures["statistics"]),
        by_layer=", ".join(f"{value:.3f}" for value in figures["reuse_by_layer"]),
        overlap=_overlap(figures["domain_overlap"], list(corpus)),
        seed=recipe.seed,
        tokens=recipe.schedule.tokens,
        early_tokens=recipe.schedule.early_tokens,
        early=recipe.schedule.early,
        warmup=recipe.warmup,
        decay=recipe.decay,
        balance=recipe.balance,
        short=recipe.schedule.short,
        long_share=1 - recipe.schedule.short_share,
        curve=_curve(log),
        samples=_samples(report["samples"]),
    )
    write_atomic(folder / "MODEL_CARD.md", text)


def _state(recipe: Recipe, step: int) -> str:
    """Where the run described below was when the weights were taken; empty where it had ended."""
    if step >= recipe.steps:
        return ""
    constant = step <= (1 - recipe.decay) * recipe.steps
    short = recipe.schedule.length(step, recipe.steps) == recipe.schedule.short
    early = (
        f"were all of {recipe.schedule.short} tokens (longer context is extrapolated) with the domains' early shares"
    )
    return (
        f"**The run had not ended.** The weights are the running average (memory of about 50 steps) after step {step}\n"
        f"of {recipe.steps:,}. The rate {'had not begun' if constant else 'had begun'} to fall, sequences\n"
        f"{early if short else 'had reached their full length'}, and the loss was still falling.\n"
        "The table below validates the parameters, not their average. What follows describes the whole run.\n\n"
    )


def _log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]


def _model_row(name: str, recipe: Recipe, data: Path) -> str:
    with safe_open(data / recipe.folder / "model.safetensors", "np") as file:
        sizes = [tuple(file.get_slice(key).get_shape()) for key in file.keys()]  # noqa: SIM118 (no mapping)
    parameters = sum(size[0] * (size[1] if len(size) == 2 else 1) for size in sizes)
    shape, last = recipe.shape, _log(data / recipe.folder)[-1]
    kind = f"{shape.experts} experts, top-{shape.top_k}, of {shape.intermediate}" if shape.experts else "dense"
    width = f"{shape.layers} x {shape.hidden}, {shape.heads}/{shape.kv_heads} heads x {shape.head_dim}, {kind}"
    return (
        f"| {name} | `{recipe.folder}` | {width} | {parameters:,} | {parameters * 8.5 / 8 / 1e6:.2f} MB "
        f"| {last['step']:,} | {last['tokens']:,} |"
    )


def _corpus_table(corpus: dict) -> str:
    rows = ["| domain | packages | licence | train / valid / test files | train bytes |", "|---|---|---|---|---|"]
    for name, part in corpus.items():
        files = " / ".join(str(part[split]["files"]) for split in ("train", "valid", "test"))
        packages = ", ".join(f"`{package}`" for package in part["packages"])
        rows.append(f"| {name} | {packages} | {part['licence']} | {files} | {part['train']['bytes']:,} |")
    return "\n".join(rows)


def _quality_table(bits: dict) -> str:
    heads = {"moe": "this model"} | {f"kneser_ney_{kind}": what for kind, what in KINDS.items()}
    heads |= {"dense": "dense drafter", "moe_full_context": "this model beyond its trained context"}
    columns = [key for key in heads if key in next(iter(bits.values()))]
    rows = ["| domain | " + " | ".join(heads[c] for c in columns) + " | bytes |", "|---" * (len(columns) + 2) + "|"]
    for name, row in bits.items():
        rows.append(f"| {name} | " + " | ".join(f"{row[c]:.3f}" for c in columns) + f" | {row['bytes']:,} |")
    return "\n".join(rows)


def _verdict(bits: dict) -> str:
    parts = []
    for kind, what in KINDS.items():
        behind = [name for name, row in bits.items() if row["moe"] >= row[f"kneser_ney_{kind}"]]
        parts.append(f"{what}: {'below it in every domain' if not behind else 'not below it in ' + ', '.join(behind)}")
    return "Against Kneser-Ney, " + "; ".join(parts) + "."


def _agreement(report: dict) -> str:
    if "eagle_agreement" not in report:
        return ""
    found = ", ".join(f"{name} {value:.3f}" for name, value in report["eagle_agreement"].items())
    return f"\nThe EAGLE-style head, given true features, prefers the target's own choice at: {found}.\n"


def _routing_table(statistics: dict) -> str:
    published = [name for name in PUBLISHED if PUBLISHED[name]]
    rows = [f"| statistic | {' | '.join([*statistics, *published])} |"]
    rows.append("|---" * (1 + len(statistics) + len(published)) + "|")
    for key in STATISTICS:
        own = [f"{scalars[key]:.3f}" for scalars in statistics.values()]
        known = [str(PUBLISHED[name].get(key, "-")) for name in published]
        rows.append(f"| {key} | {' | '.join(own + known)} |")
    return "\n".join(rows)


def _overlap(table: list[list[float]], names: list[str]) -> str:
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    return ", ".join(f"{names[i]}/{names[j]} {table[i][j]:.2f}" for i, j in pairs)


def _curve(log: list[dict]) -> str:
    points = [entry for entry in log if "valid_bits_per_byte" in entry]
    points = points[:: max(1, len(points) // 12)] + ([points[-1]] if points[-1:] else [])
    names = list(points[-1]["valid_bits_per_byte"])
    rows = [f"| tokens | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for entry in {entry["step"]: entry for entry in points}.values():
        values = " | ".join(f"{entry['valid_bits_per_byte'][name]:.3f}" for name in names)
        rows.append(f"| {entry['tokens']:,} | {values} |")
    return "\n".join(rows)


def _samples(samples: dict) -> str:
    parts = ["\n## Samples\n\nTemperature 0.7, unselected, fixed seed; the prompt is the beginning of a test file.\n"]
    for name, text in samples.items():
        parts.append(f"\n### {name}\n\n```text\n{text['prompt']}[...]{text['continuation']}\n```\n")
    return "".join(parts)
